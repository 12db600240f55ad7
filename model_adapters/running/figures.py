"""What a run cost: figures that ride on each answer, totals for the results file, the clock and the memory gauge."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch


class Answer(str):
    """A generated text with figures about its making.

    `stats` holds, in tokens of the model, `jrt_prompt_tokens`, `jrt_prefix_tokens` (M) and `jrt_new_tokens`;
    `jrt_prefix_share` (M / prompt), `jrt_prefix_characters` (where in the text the prefix ends, if the tokenizer
    tells), `jrt_entropy` (H of the document), `jrt_state_bytes` (of this row after its prompt, padding not counted), of
    it `jrt_window_bytes` (keys and values of sliding windows) and, where no part of the state grows with the prompt,
    `jrt_recurrent_bytes` (the rest), and `jrt_seconds` (this row's share of the model's time; the shares of all rows
    add up to the whole). `jrt_ended` is what ended the text: `stop` (a stop string), `eos` (the model's end token) or
    `length` (`max_gen_toks`). `jrt_empty_answer` is 1 where nothing but spaces came before that, else 0.

    A prompt that was cut on the left has `jrt_truncated_tokens` and `jrt_truncated_characters`, one that was not run
    at all only `jrt_skipped`. An answer taken from lm_eval's request cache carries the figures of the run that made it.
    """

    stats: dict[str, Any]

    def __new__(cls, text: str, stats: Mapping[str, Any] | None = None) -> Answer:
        answer = super().__new__(cls, text)
        answer.stats = dict(stats or {})
        return answer

    def __reduce__(self) -> tuple[type[Answer], tuple[str, dict[str, Any]]]:
        return Answer, (str(self), self.stats)


class LogLikelihood(float):
    """The log-likelihood of a text; `stats` holds `jrt_scored_tokens`, over how many tokens it is a sum."""

    stats: dict[str, float]

    def __new__(cls, value: float, stats: dict[str, float] | None = None) -> LogLikelihood:
        found = super().__new__(cls, value)
        found.stats = dict(stats or {})
        return found

    def __reduce__(self) -> tuple[type[LogLikelihood], tuple[float, dict[str, float]]]:
        return LogLikelihood, (float(self), self.stats)


_LARGEST = ("largest_batch", "state_bytes_per_row", "work_peak_bytes", "process_peak_memory_bytes")


@dataclass
class Totals:
    """Sums over the rows a process ran (not over answers taken from a cache).

    `work_peak_bytes` is what states and activations took at most, beyond the weights; `process_peak_memory_bytes` what
    the process held at most, with everything else in it (0: cannot be told). `ended` counts answers by what ended them,
    as `Answer` says, and `answer_seconds` has the time of each.
    """

    seconds: float = 0.0
    rows: int = 0
    batches: int = 0
    prompt_tokens: int = 0
    prompt_tokens_computed: int = 0
    new_tokens: int = 0
    scored_tokens: int = 0
    prefix_tokens: int = 0
    entropy: float = 0.0
    rows_truncated: int = 0
    rows_skipped: int = 0
    rows_beyond_training: int = 0
    largest_batch: int = 0
    state_bytes_per_row: int = 0
    work_peak_bytes: int = 0
    process_peak_memory_bytes: int = 0
    answers_empty: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    answer_seconds: list[float] = field(default_factory=list)

    def add(self, other: Totals) -> None:
        """Add another process's sums; largest values are compared."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            setattr(self, one.name, max(mine, theirs) if one.name in _LARGEST else mine + theirs)

    def summary(self) -> dict[str, Any]:
        """Totals for the results file: means where a sum says little, and the speed."""
        out: dict[str, Any] = asdict(self)
        rows = max(1, self.rows)
        out["ended"] = dict(self.ended)
        seconds = out.pop("answer_seconds")
        out["answer_seconds_median"] = median(seconds) if seconds else None
        out["prefix_tokens_mean"] = out.pop("prefix_tokens") / rows
        out["entropy_mean"] = out.pop("entropy") / rows
        out["prefix_share_mean"] = self.prefix_tokens / max(1, self.prompt_tokens)
        out["prompt_tokens_reused"] = self.prompt_tokens - self.prompt_tokens_computed
        # what was taken from a kept state was not read: a speed must not count it
        tokens = self.prompt_tokens_computed + self.new_tokens + self.scored_tokens
        out["tokens_per_second"] = tokens / self.seconds if self.seconds else 0.0
        return out


class Timer(Protocol):
    """Measures a stretch of time: what is spent inside `running()` since the last `lap()`."""

    def running(self) -> AbstractContextManager[None]: ...

    def lap(self) -> float: ...


class Clock:
    """Seconds that pass inside `with clock.running():`, the device's queue included."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        self._wait()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self.seconds += time.perf_counter() - start

    def lap(self) -> float:
        """Seconds since the last lap."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def machine() -> dict[str, Any]:
    """What a time was taken on: processor, threads torch uses, and how busy the machine is (1 minute, None if unknown).

    A second on another machine, or on this one under load, is another second.
    """
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load = None
    return {"processor": _processor(), "threads": torch.get_num_threads(), "load_average": load}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Highest use of memory for states and activations: what `started()` finds in memory already is not counted.

    On CUDA what PyTorch's allocator gave out; on Linux what the process held, also what others in it took meanwhile; 0
    elsewhere.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.work_bytes = 0
        self._before: int | None = None

    def started(self) -> None:
        """The model is about to work."""
        self.read()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return
        _release_freed()  # or what was freed earlier and is used again would not be counted
        try:
            _RESET.write_text("5")  # the highest use so far is the present one
        except OSError:
            self._before = _status("VmHWM")  # not allowed here: growth beyond an earlier peak still shows
            return
        self._before = _status("VmRSS")

    def read(self) -> int:
        """Bytes beyond what `started()` found, the most of all times."""
        if self._before is not None:
            cuda = self.device.type == "cuda"
            now = torch.cuda.max_memory_allocated(self.device) if cuda else _status("VmHWM") or 0
            self.work_bytes = max(self.work_bytes, now - self._before)
        return self.work_bytes


def process_peak() -> int:
    """Bytes that the whole process held at most, Python, lm_eval and data included; 0 where it cannot be told."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _release_freed() -> None:
    """Hand memory that is free back to the system, where the C library is glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # musl, macOS and Windows have no such function
        return


def _status(name: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
