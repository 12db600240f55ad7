"""What an lm_eval task of ours is made of: from a YAML file to documents, prompts, scores and a log."""
