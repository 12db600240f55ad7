"""What `jrt-eval run` does besides handing its arguments to lm_eval."""
