"""lm_eval's request cache (`--use_cache`), made safe: it answers only for the configuration that filled it.

lm_eval keys its cache by the request alone, so another model, feature map or prefix would be given the first one's
answers. A fingerprint of everything the answers depend on is kept in the same file and compared before the first read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from jrt_lmeval.errors import JRTError
from jrt_lmeval.one_line import cache_fault

log = logging.getLogger("lm_eval.jrt")

KEY = "jrt_lmeval:fingerprint"


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types and bytes of all weights (about a second per gigabyte)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over a tokenizer's vocabulary and its special tokens."""
    content = json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.special_tokens_map], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


class RequestCache:
    """Writes answers as they are finished; leaving `with cache:` waits until they are on their way to the disk.

    Args:
        hook: lm_eval's `CacheHook`; its `dbdict` is the store, or None without `--use_cache`.
        fingerprint: makes the fingerprint; called only if there is a store.

    Raises:
        JRTError: the store was filled by another configuration, or by a model that leaves no fingerprint; or it cannot
            be written.
    """

    def __init__(self, hook: Any, fingerprint: Callable[[], Mapping[str, Any]]):
        self.hook = hook
        self.store: Any = getattr(hook, "dbdict", None)
        self._name = str(getattr(self.store, "filename", "the request cache"))
        if self.store is not None:
            self._claim(dict(fingerprint()))

    def _claim(self, ours: dict[str, Any]) -> None:
        log.warning(
            "%s: only the models of this package look at whose answers a cache holds. lm_eval's own (--model hf, vllm, "
            "...) given this file would take these answers for theirs.",
            self._name,
        )
        try:
            theirs = self.store[KEY]
        except (sqlite3.Error, OSError, pickle.UnpicklingError, EOFError) as error:
            raise JRTError(f"{self._name} {cache_fault(error)}") from error
        except KeyError:
            if len(self.store):
                raise JRTError(
                    f"{self._name} holds answers of a model that left no fingerprint, so they may not be this "
                    "model's. Use another --use_cache path."
                ) from None
            with self:
                self.store[KEY] = theirs = ours
        differing = [
            f"{name} (there: {theirs.get(name)!r}, here: {ours.get(name)!r})"
            for name in sorted(set(ours) | set(theirs))
            if theirs.get(name) != ours.get(name)
        ]
        if differing:
            raise JRTError(
                f"{self._name} was filled by another configuration and would give its answers as this one's. "
                f"Different: {'; '.join(differing)}. Use another --use_cache path, or delete the file."
            )

    def add(self, method: str, args: Any, result: Any) -> None:
        """Store one finished answer."""
        if self.store is not None:
            with self._writing():
                self.hook.add_partial(method, args, result)

    def __enter__(self) -> RequestCache:
        return self

    def __exit__(self, *_: object) -> None:
        # Also when interrupted: what is finished must reach the file.
        if self.store is not None:
            with self._writing():
                self.store.commit()
                bool(self.store)  # writes happen in a thread; the next call is what raises its error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise JRTError(
                f"cannot write to {self._name}: {error}. The answers written before stay there: make room and run the "
                "same command again, and only the others are computed."
            ) from error
