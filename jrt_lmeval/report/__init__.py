"""From lm_eval's own logs to tables, pictures and data frames. Reads JSON, never imports torch."""

from jrt_lmeval.report.frames import runs_df, samples_df

__all__ = ["runs_df", "samples_df"]
