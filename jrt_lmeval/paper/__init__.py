"""`jrt-eval paper`: every run that the paper's tables need, and the tables made from their logs."""
