"""The model at work: its limits and prefix policy, the figures of each answer, and what a run cost."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, TypeVar

import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import PrefixPolicy, choose_prefix
from model_adapters.engines.engine import Engine
from model_adapters.running.batching import Budget
from model_adapters.running.rows import PromptRow

log = logging.getLogger("lm_eval.jrt")


Made = TypeVar("Made", bound="_WithFigures")


class _WithFigures:
    """A value that knows more about its making: `stats`."""

    plain: ClassVar[type]
    stats: dict[str, Any]

    def __new__(cls: type[Made], value: Any, stats: Mapping[str, Any] | None = None) -> Made:
        found = super().__new__(cls, value)  # type: ignore[call-arg]
        found.stats = dict(stats or {})
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.plain(self), self.stats)


class Answer(_WithFigures, str):
    """A generated text with figures about its making.

    `stats` holds, in tokens of the model, `jrt_prompt_tokens`, `jrt_prefix_tokens` (M) and `jrt_new_tokens`;
    `jrt_prefix_share` (M / prompt), `jrt_prefix_characters` (where in the text the prefix ends, if the tokenizer
    tells), `jrt_entropy` (H of the document), `jrt_features` (`jrt_lmeval.prefix.features`), with `prefix=answer`
    `jrt_drafts`, `jrt_draft_tokens` and `jrt_draft` (see `running.drafts`), `jrt_state_bytes` (of this row after its
    prompt, padding not counted), of it `jrt_window_bytes` (keys and values of sliding windows) and, where no part of
    the state grows with the prompt, `jrt_recurrent_bytes` (the rest), and `jrt_seconds` (this row's share of the
    model's time; the shares of all rows add up to the whole). `jrt_ended` is what ended the text: `stop` (a stop
    string), `eos` (the model's end token) or `length` (`max_gen_toks`). `jrt_empty_answer` is 1 where nothing but
    spaces came before that, else 0.

    A prompt that was cut on the left has `jrt_truncated_tokens` and `jrt_truncated_characters`, one that was not run
    at all only `jrt_skipped`. An answer taken from lm_eval's request cache carries the figures of the run that made it.
    """

    plain = str


class LogLikelihood(_WithFigures, float):
    """The log-likelihood of a text; `stats` holds `jrt_scored_tokens`, over how many tokens it is a sum."""

    plain = float


class NotFinite(JRTError):
    """The model gave logits with NaN or infinity.

    Args:
        row: number of the row; None where several rows share what was read.
        where: what was being computed, such as `after its prompt`.
    """

    def __init__(self, row: int | None, where: str):
        super().__init__(
            f"the model's logits are not finite (NaN or infinity) {where}, so that what follows would be nonsense. "
            "'jrt-eval doctor MODEL' says more; in half precision, try dtype=float32. Answers finished before this one "
            "are kept where --use_cache is given."
        )
        self.row, self.where = row, where


_LARGEST = ("largest_batch", "state_bytes_per_row", "work_peak_bytes", "process_peak_memory_bytes")


@dataclass
class Totals:
    """Sums over the rows a process ran (not over answers taken from a cache).

    `prompt_tokens_computed` are those that went through the model: what several rows share is read once and counts
    once. `work_peak_bytes` is what states and activations took at most, beyond the weights; `process_peak_memory_bytes`
    what the process held at most, with everything else in it (0: cannot be told). `ended` counts answers by what ended
    them, as `Answer` says, and `answer_seconds` has the time of each.
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

    def count(self, rows: Sequence[PromptRow], state_bytes: int = 0) -> None:
        """Add a batch; `state_bytes` are those of the largest row's state."""
        self.batches += 1
        self.largest_batch = max(self.largest_batch, len(rows))
        self.rows += len(rows)
        self.prompt_tokens += sum(len(row.ids) for row in rows)
        self.prefix_tokens += sum(row.choice.length for row in rows)
        self.entropy += sum(row.choice.entropy for row in rows)
        self.scored_tokens += sum(len(row.continuation) for row in rows)
        self.state_bytes_per_row = max(self.state_bytes_per_row, state_bytes)

    def count_answer(self, answer: Answer) -> None:
        """Add a generated answer."""
        self.new_tokens += answer.stats["jrt_new_tokens"]
        self.answers_empty += answer.stats["jrt_empty_answer"]
        self.ended[answer.stats["jrt_ended"]] += 1
        self.answer_seconds.append(answer.stats["jrt_seconds"])

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
        out["prompt_tokens_reused"] = max(0, self.prompt_tokens - self.prompt_tokens_computed)
        # what was taken from a kept state was not read: a speed must not count it
        tokens = self.prompt_tokens_computed + self.new_tokens + self.scored_tokens
        out["tokens_per_second"] = tokens / self.seconds if self.seconds else 0.0
        return out


class Clock:
    """Seconds that pass inside `with clock.running():`, the device's queue included."""

    def __init__(self, device: torch.device):
        self.device = device
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        self._wait()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self._seconds += time.perf_counter() - start

    def lap(self) -> float:
        """Seconds since the last lap."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Runtime(Clock):
    """A model at work.

    Args:
        engine: the model.
        policy: how prefix lengths are chosen.
        budget: what a batch may hold.
        max_length: tokens the model may read, generated ones included; None for no limit.
        on_overflow: what happens to longer prompts: `error`, `truncate_left` (cuts the start) or `skip` (answers with
            nothing).
    """

    def __init__(self, engine: Engine, policy: PrefixPolicy, budget: Budget, max_length: int | None, on_overflow: str):
        super().__init__(engine.device)
        self.engine, self.policy, self.budget = engine, policy, budget
        self.max_length, self.on_overflow = max_length, on_overflow
        self._process_peak = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was done so far: a model may serve several runs."""
        self.sums, self._memory = Totals(), Memory(self.device)

    @property
    def totals(self) -> Totals:
        """What this process has done so far, its use of memory included."""
        self.sums.work_peak_bytes = self._memory.read()
        self.sums.process_peak_memory_bytes = max(self._process_peak, process_peak())
        return self.sums

    def lap(self) -> float:
        """Seconds of model time since the last lap, added to the totals."""
        seconds = super().lap()
        self.sums.seconds += seconds
        return seconds

    def prepared(self, rows: Sequence[PromptRow]) -> list[PromptRow]:
        """Rows cut to the model's context, with their prefix lengths.

        The continuation of a scored row is no part of what its prefix is chosen on.

        Raises:
            JRTError: prompts do not fit and `on_overflow` is `error`, or not even one token of a prompt fits. Nothing
                has been computed then.
        """
        self._process_peak = max(self._process_peak, process_peak())  # before it is reset
        self._memory.started()
        limit, trained = self.max_length, self.engine.trained_length
        over = [row for row in rows if limit is not None and len(row.ids) + row.room > limit]
        if over and self.on_overflow == "error":
            raise JRTError(
                f"{len(over)} of {len(rows)} prompts do not fit into the model's context of {limit} tokens: the "
                f"longest has {max(len(row.ids) for row in over)}, and up to {max(row.room for row in rows)} more "
                "follow. Use a shorter window (context_length of the task), or the model argument "
                "on_overflow=truncate_left (cuts the start of the prompt) or on_overflow=skip; both are counted in the "
                "results."
            )
        prompts = len({row.index for row in rows})  # one prompt is several rows where its document is read in chunks
        if over:
            over_prompts = len({row.index for row in over})
            rows = [self._cut(row, limit or 0) for row in rows]
            skips = self.on_overflow == "skip"
            self.sums.rows_skipped += over_prompts * skips
            self.sums.rows_truncated += over_prompts * (not skips)
            log.warning(
                "on_overflow=%s: %d of %d prompts do not fit into the model's context of %d tokens and %s.",
                *(self.on_overflow, over_prompts, prompts, limit),
                "are not answered; no mean of a task counts them" if skips else "are read without their start",
            )
        if trained is not None and (beyond := len({row.index for row in rows if len(row.ids) > trained})):
            self.sums.rows_beyond_training += beyond
            log.warning(
                "%d of %d prompts are longer than the %d tokens the model was trained on.", beyond, prompts, trained
            )
        return [self._with_prefix(row) for row in rows]

    def _cut(self, row: PromptRow, limit: int) -> PromptRow:
        surplus = len(row.ids) + row.room - limit
        if surplus <= 0:
            return row
        if self.on_overflow == "skip":
            return replace(row, skipped=True)
        if surplus >= len(row.ids):
            raise JRTError(
                f"the model's context of {limit} tokens has no room for {row.room} more after even one token of the "
                "prompt; lower max_gen_toks."
            )
        end = max(1, row.document_end - surplus)
        return replace(row, ids=row.ids[surplus:], document_end=end, truncated=surplus)

    def _with_prefix(self, row: PromptRow) -> PromptRow:
        choice = choose_prefix(self.policy, len(row.ids), row.document_end, row.document_ids)
        longest = self.engine.longest_prefix
        return replace(row, choice=replace(choice, length=min(choice.length, longest or choice.length)))


# ---------------------------------------------------------------- the machine and its memory


def machine() -> dict[str, Any]:
    """What a time was taken on: processor, threads torch uses, and how busy the machine is (1 minute, None if unknown).

    A second on another machine, or on this one under load, is another second.
    """
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load = None
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {"processor": processor, "threads": torch.get_num_threads(), "load_average": load}


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
        with suppress(AttributeError, OSError, TypeError):  # musl, macOS and Windows have no such function
            ctypes.CDLL(None).malloc_trim(0)  # or what was freed earlier and is used again would not be counted
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the highest use so far is the present one
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


def _status(name: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
