"""From lm_eval's own logs to tables and pictures. Reads JSON, never imports torch."""
