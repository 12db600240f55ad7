"""Models as engines: what a model must offer to be evaluated here, and who offers it."""
