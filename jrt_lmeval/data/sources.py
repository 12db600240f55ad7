"""Where the rows of a data set come from: a local mirror, the Hugging Face hub, or what ships with the package.

The source is never hidden: it is part of what is returned, and a synthetic sample is announced with a warning.
"""

from __future__ import annotations

import logging
import os
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jrt_lmeval.data.rowfiles import numbered_csv_rows, numbered_rows
from jrt_lmeval.data.shipped import PACKAGED
from jrt_lmeval.errors import JRTError, one_of, unknown
from jrt_lmeval.paths import samples_dir
from jrt_lmeval.prompts.benchmarks import BENCHMARKS, sample_of

log = logging.getLogger("lm_eval.jrt")

SOURCES = ("auto", "local", "hub", "sample")
FOLDER_VARIABLE = "JRT_LMEVAL_DATA"
PROBE_SECONDS = 3.0
_sampled: set[str] = set()


@dataclass(frozen=True)
class Loaded:
    """Rows and where they are from.

    Attributes:
        rows: the rows, in order.
        source: local, hub, sample, packaged (real rows shipped with the package) or files (named in a task's YAML).
        origin: the file or data set, for messages.
        lines: line number of each row in `origin`; empty where there are no lines.
    """

    rows: tuple[dict[str, Any], ...]
    source: str
    origin: str
    lines: tuple[int, ...] = ()

    def place(self, index: int) -> str:
        """Where row `index` (from 0) stands, for an error message."""
        row = self.rows[index]
        where = f"line {self.lines[index]}" if self.lines else f"row {index}"
        return f"{self.origin}, {where}" + (f" (doc_id {row['doc_id']!r})" if "doc_id" in row else "")


def load_rows(dataset: str, split: str, source: str = "auto", config: str | None = None) -> Loaded:
    """The rows of a split.

    Args:
        dataset: name on the hub, such as `hazyresearch/based-fda`; its last part is the name of a local folder.
        split: such as `validation`.
        source: `local` is `$JRT_LMEVAL_DATA/<last part of dataset>/<split>.jsonl`; `hub` the Hugging Face hub;
            `sample` what ships with the package; `auto` takes the first of these that there is, a local folder of that
            name counting whatever it holds. Without a network,
            `auto` gives up on the hub after one probe of three seconds a process; with `HF_HUB_OFFLINE=1` it makes
            no probe and looks only into the hub's local cache.
        config: configuration of a hub data set.

    Raises:
        JRTError: unknown source, a source that has no such rows, or a file that cannot be read; says what to do.
    """
    one_of("source", source, SOURCES)
    name = dataset.rpartition("/")[2]
    if source == "local":
        return _from_file(_local_file(name, split), "local")
    if source == "hub":
        return _from_hub(dataset, split, config)
    if source == "sample":
        if name not in PACKAGED:
            _say_sample(dataset, "The task asks for it (source: sample).")
        return _shipped(name, dataset)
    if os.environ.get(FOLDER_VARIABLE):
        file = _local_file(name, split)
        # Whoever has a folder of this name wants it read: a file that is missing or broken there is no reason to take
        # other rows.
        if os.path.lexists(file.parent):
            return _from_file(file, "local")
    if name in PACKAGED:
        return _shipped(name, dataset)
    try:
        return _from_hub(dataset, split, config)
    except JRTError as error:
        if sample_of(name) is None:
            raise
        _say_sample(dataset, str(error))
        return _shipped(name, dataset)


def _say_sample(dataset: str, why: str) -> None:
    """One warning a process, however many data sets; each task is marked in the table."""
    if not _sampled:
        log.warning(
            "SYNTHETIC SAMPLES, not the benchmarks, are read where '[sample]' stands behind a task; scores cannot be "
            "compared with published ones. First: %s. %s",
            dataset,
            why,
        )
    _sampled.add(dataset)


def load_files(data_files: Any, split: str, folder: Path | None, delimiter: str | None = None) -> Loaded:
    """The rows of the files that a task names, relative to its YAML file's folder.

    Args:
        data_files: a path, a list of paths, or a mapping from splits to those.
        split: the split wanted of a mapping.
        folder: what relative paths are relative to; None where that is not known.
        delimiter: what stands between the values of CSV files; None for JSON lines.

    Raises:
        JRTError: no such split, a relative path without a folder, or a file that cannot be read.
    """
    if isinstance(data_files, Mapping):
        if split not in data_files:
            raise unknown("split of data_files", split, map(str, data_files))
        data_files = data_files[split]
    files = resolved(data_files, folder)
    parts = [_from_file(Path(file), "files", delimiter) for file in ([files] if isinstance(files, str) else files)]
    if len(parts) == 1:
        return parts[0]
    rows = tuple(row for part in parts for row in part.rows)
    return Loaded(rows, "files", ", ".join(part.origin for part in parts))


def resolved(data_files: Any, folder: Path | None) -> Any:
    """`data_files` in its own shape, with paths relative to `folder`.

    Raises:
        JRTError: a relative path, and no folder: a file of that name in the current directory may be another's.
    """
    if isinstance(data_files, Mapping):
        return {split: resolved(files, folder) for split, files in data_files.items()}
    if isinstance(data_files, (list, tuple)):
        return [resolved(file, folder) for file in data_files]
    if folder is None and not Path(data_files).is_absolute():
        raise JRTError(
            f"data_files {str(data_files)!r} stands beside a YAML file, and this task was not read from one: give its "
            "absolute path."
        )
    return str((folder or Path()) / data_files)


def _local_file(name: str, split: str) -> Path:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise JRTError(f"source 'local' needs ${FOLDER_VARIABLE}: the folder that holds {name}/{split}.jsonl.")
    if not Path(folder).is_dir():
        raise JRTError(f"${FOLDER_VARIABLE} is {folder!r}, which is not a folder; it should hold {name}/{split}.jsonl.")
    return Path(folder) / name / f"{split}.jsonl"


def _from_file(file: Path, source: str, delimiter: str | None = None) -> Loaded:
    numbered = numbered_rows(file) if delimiter is None else numbered_csv_rows(file, delimiter)
    return Loaded(tuple(row for _, row in numbered), source, str(file), tuple(line for line, _ in numbered))


def _shipped(name: str, dataset: str) -> Loaded:
    if name in PACKAGED:
        return Loaded(tuple(PACKAGED[name]()), "packaged", name)
    file = sample_of(name)
    if file is None:
        sampled = [spec.dataset.rpartition("/")[2] for spec in BENCHMARKS.values() if spec.sample]
        shipped = ", ".join(sorted((*sampled, *PACKAGED)))
        raise JRTError(f"no sample of {dataset!r} ships with the package, only of: {shipped}.")
    return _from_file(samples_dir() / file, "sample")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@cache
def _hub_answers() -> bool:
    """Whether the hub can be reached: one look a process, for all data sets."""
    answers = threading.Event()

    def look() -> None:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PROBE_SECONDS).close()
        except (OSError, ValueError):
            return
        answers.set()

    # A thread, since the time limit of a request does not cover the look-up of a host name.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answers.is_set()


def _from_hub(dataset: str, split: str, config: str | None) -> Loaded:
    name = dataset.rpartition("/")[2]
    elsewhere = f"Put {name}/{split}.jsonl into the folder ${FOLDER_VARIABLE} to do without the hub."
    if name == dataset:
        raise JRTError(f"{dataset!r} is not a data set of the Hugging Face hub (owner/name). {elsewhere}")
    if not _offline() and not _hub_answers():
        raise JRTError(
            f"{dataset}: the Hugging Face hub did not answer within {PROBE_SECONDS:g} s. {elsewhere} "
            "If it was downloaded before, HF_HUB_OFFLINE=1 takes it from the hub's local cache."
        )
    import datasets

    try:
        rows = datasets.load_dataset(dataset, config, split=split)
    except Exception as error:  # the hub's client raises a dozen kinds
        said = " ".join(str(error).split()).rstrip(".")
        raise JRTError(f"{dataset}: not to be had from the Hugging Face hub ({said}). {elsewhere}") from error
    return Loaded(tuple(dict(row) for row in rows), "hub", dataset)
