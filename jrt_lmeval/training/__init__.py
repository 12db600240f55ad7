"""Training of the small shipped models: tokenizer, data mixture, JRT objective, recipe, resumable loop."""
