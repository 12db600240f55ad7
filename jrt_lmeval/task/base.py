"""What our tasks share: the rows of a split, which process asks them, and which requests are built or cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jrt_lmeval import __version__
from jrt_lmeval.errors import JRTError

_NO_REQUEST = ("metadata", "metric_list", "filter_list", "task_alias", "tag")
"""Keys of a task's configuration that do not shape a request."""


class SplitRow(dict):
    """A row that is asked: the `number`-th of those of its split that are asked, at `place` among all that were read.

    Both count from 0. `--samples` and the log name the place.
    """

    def __init__(self, row: Mapping[str, Any], split: str, number: int, place: int) -> None:
        super().__init__(row)
        self.split, self.number, self.place = split, number, place


class Rows(list[SplitRow]):
    """The rows of a split that are asked; lm_eval reads `features`."""

    def __init__(self, rows: Iterable[tuple[int, Mapping[str, Any]]], split: str) -> None:
        super().__init__(SplitRow(row, split, number, place) for number, (place, row) in enumerate(rows))

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0])


class LoggedRow(dict):
    """A row as the samples log shows it: with the field `jrt`, which the row itself does not have."""

    def __init__(self, row: SplitRow) -> None:
        super().__init__(row, jrt={})
        self.row = row


def source_row(doc: dict[str, Any]) -> dict[str, Any]:
    """The row that a sample shows, or the row itself."""
    return doc.row if isinstance(doc, LoggedRow) else doc


def ranks(documents: Sequence[Hashable], lengths: Sequence[int], processes: int) -> list[int]:
    """The process of each row, from 0, so that a document stays in one process and all have about as much to read.

    If there are fewer documents than processes, the questions on the longest documents are split as well. `documents`
    and `lengths` say for each row which document it has and how long that is, in any unit.
    """
    by_document: dict[Hashable, list[int]] = {}
    for row, document in enumerate(documents):
        by_document.setdefault(document, []).append(row)
    groups = list(by_document.values())

    def weight(rows: Sequence[int]) -> int:
        return sum(lengths[row] for row in rows)

    while len(groups) < min(processes, len(documents)):
        largest = max((group for group in groups if len(group) > 1), key=weight)
        groups.remove(largest)
        groups += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    loads = [(0, 0)] * processes
    chosen = [0] * len(documents)
    # The longest documents come first, and each goes to the process that has least to read.
    for group in sorted(groups, key=lambda rows: (-weight(rows), rows[0])):
        process = min(range(processes), key=lambda number: (loads[number], number))
        for row in group:
            chosen[row] = process
        loads[process] = (loads[process][0] + weight(group), loads[process][1] + len(group))
    return chosen


class RowsTask:
    """The base of our tasks, beside one of lm_eval's task classes; their splits are `Rows`."""

    config: Any
    eval_docs: Any
    _building: list[tuple[int, dict[str, Any]]] | None = None

    def predicts_only(self) -> bool:
        """Whether `--predict_only` was given: no answer is scored."""
        task: Any = self
        return task._has_metric("bypass") if hasattr(self, "_has_metric") else "bypass" in task._metric_fn_list

    def processes(self, rows: Sequence[SplitRow], world_size: int) -> list[int]:
        """The process that asks each row, from 0; the same in every process."""
        return [number % world_size for number in range(len(rows))]

    def shown(self, row: SplitRow) -> dict[str, Any]:
        """A row as the samples log shows it."""
        return row

    def doc_iterator(
        self, *, rank: int = 0, limit: int | None = None, world_size: int = 1, samples: list[int] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows that this process asks, with the numbers that lm_eval knows them by.

        That number is the row's place in the file, or, as lm_eval wants it, the place in `samples` of that number.

        Raises:
            JRTError: `samples` names a row that there is not, or one that is left out.
        """
        if self._building is not None:
            yield from self._building
            return
        rows: list[SplitRow] = list(self.eval_docs)
        if samples:
            chosen = self._named(rows, samples)
        else:
            chosen = [(row.place, row) for row in rows[: int(limit) if limit else None]]
        ranks = self.processes([row for _, row in chosen], world_size)
        yield from ((number, self.shown(row)) for (number, row), one in zip(chosen, ranks, strict=True) if one == rank)

    def _named(self, rows: Sequence[SplitRow], samples: Sequence[int]) -> list[tuple[int, SplitRow]]:
        kept = {row.place: row for row in rows}
        for place in samples:
            if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < self.rows_read:
                raise JRTError(
                    f"task {self.config.task}: --samples names row {place!r}; rows are numbered 0 to "
                    f"{self.rows_read - 1}, as they stand in the data."
                )
            if place not in kept:
                raise JRTError(
                    f"task {self.config.task}: --samples names row {place}, which the window or the control of this "
                    "task drops; the next that is asked is row "
                    f"{next((other for other in kept if other > place), max(kept))}."
                )
        return [(list(samples).index(place), kept[place]) for place in sorted(set(samples))]

    @property
    def rows_read(self) -> int:
        """How many rows the evaluated split has, those included that are not asked."""
        raise NotImplementedError

    @property
    def prompt_hash(self) -> str:
        """What the prompts depend on beside the rows that are asked and lm_eval's configuration."""
        return ""

    def build_all_requests(self, **kwargs: Any) -> Any:
        """As lm_eval; where it caches requests, it is given those back that it would build, or builds them.

        lm_eval knows cached requests by the task's name alone. The only free part of its key is the tokenizer's name.
        It cannot go on in a process that asks nothing, as with `--limit 1` and two processes: such a process asks the
        first row too, and does not hand its answer on, since `doc_iterator` yields no row when answers are scored.
        """
        which = {name: kwargs[name] for name in ("limit", "samples") if kwargs.get(name) is not None}
        asked = list(self.doc_iterator(rank=kwargs.get("rank", 0), world_size=kwargs.get("world_size", 1), **which))
        asked = asked or list(self.doc_iterator(**which))[:1]
        if kwargs.get("cache_requests"):
            kwargs["tokenizer_name"] = f"{kwargs.get('tokenizer_name', '')}-jrt{self._request_hash(asked, kwargs)}"
        # Where it caches, lm_eval builds all rows and takes the first: of one process's share, these are others.
        self._building = asked
        try:
            return super().build_all_requests(**{**kwargs, "limit": None})  # type: ignore[misc]
        finally:
            self._building = None

    def _request_hash(self, asked: Sequence[tuple[int, dict[str, Any]]], kwargs: dict[str, Any]) -> str:
        config = {key: value for key, value in self.config.to_dict().items() if key not in _NO_REQUEST}
        chat = kwargs.get("chat_template")
        template = None
        if kwargs.get("apply_chat_template") and chat is not None:
            template = chat([{"role": "user", "content": "A question?"}])
        draws = getattr(self, "fewshot_rnd", None)  # which examples are shown; lm_eval sets it
        shots = draws.getstate() if self.config.num_fewshot and draws else None
        what = [__version__, self.prompt_hash, config, kwargs.get("system_instruction"), template, shots, asked]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
