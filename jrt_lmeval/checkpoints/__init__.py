"""Where weights come from: the shipped models, local folders and the hub; loaded whole or not at all."""
