"""States of long documents kept in files while they are read, so that a run that stops goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from jrt_lmeval.errors import JRTError

CLASSES = ("jrt_lmeval.", "model_adapters.", "transformers.", "builtins.frozenset")
"""Packages whose classes, and classes that, a saved state may be made of; a file that names others is not read."""


class SavedStates:
    """A folder of states, named by what was read and by which model.

    Args:
        folder: where they lie; it is made.
        model: facts that decide an answer, with a digest of the weights; called when the first state is saved.
    """

    def __init__(self, folder: str, model: Callable[[], Mapping[str, Any]]):
        self._folder, self._model, self._name = Path(folder), model, ""

    def load(self, ids: Sequence[Sequence[int]], prefixes: Sequence[int]) -> Any:
        """The state after these tokens of each row, on the device where it was saved; None if there is none.

        Raises:
            JRTError: the file is broken, or holds something that is no state.
        """
        file = self._file(ids, prefixes)
        if not file.exists():
            return None
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            if others := [name for name in names if not name.startswith(CLASSES)]:
                raise ValueError(f"it names {', '.join(others)}")
            classes = [getattr(import_module(place), name) for place, _, name in (one.rpartition(".") for one in names)]
            with torch.serialization.safe_globals(classes):
                return torch.load(file, weights_only=True)
        except (OSError, RuntimeError, AttributeError, ImportError, EOFError, ValueError, UnpicklingError) as error:
            raise JRTError(f"{file} is no state saved by this package ({error}); delete the file.") from None

    def save(self, ids: Sequence[Sequence[int]], prefixes: Sequence[int], state: Any, before: int) -> None:
        """Keep the state after these tokens of each row, instead of the one after the first `before` of them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(ids, prefixes)
        torch.save(state, part := file.with_suffix(".part"))
        os.replace(part, file)
        if before:
            self._file([row[:before] for row in ids], prefixes).unlink(missing_ok=True)

    def _file(self, ids: Sequence[Sequence[int]], prefixes: Sequence[int]) -> Path:
        self._name = self._name or json.dumps(self._model(), sort_keys=True, default=str)
        read = json.dumps([self._name, [list(row) for row in ids], list(prefixes)])
        return self._folder / f"{hashlib.sha256(read.encode()).hexdigest()[:32]}.state"
