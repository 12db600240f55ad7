"""The door that task files name: `class: !function jrt_lmeval.task.RecallTask` or `.PerplexityTask`."""

from jrt_lmeval.recall.perplexity import PerplexityTask
from jrt_lmeval.recall.task import RecallTask

__all__ = ["PerplexityTask", "RecallTask"]
