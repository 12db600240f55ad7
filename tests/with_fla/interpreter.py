"""Triton's kernels on a CPU: its interpreter, with what fla asks of a GPU. For tests; to be imported before torch."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter


class _Number(int):
    """A loop variable, and what is counted from it: kernels ask them for another type."""

    def to(self, dtype: Any, *_: Any, **__: Any) -> Any:
        return interpreter.interpreter_semantic.to_tensor(int(self), False).to(dtype)


def _counted(name: str) -> Any:
    plain = getattr(int, name)

    def inner(self: _Number, other: Any) -> Any:
        found = plain(self, other)
        return _Number(found) if type(found) is int else found

    return inner


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    for _method in (f"__{_name}__", f"__r{_name}__"):
        setattr(_Number, _method, _counted(_method))


def _range(*arguments: Any, **_: Any) -> list[_Number]:
    return [_Number(number) for number in range(*(int(_plain(value)) for value in arguments))]


def _plain(value: Any) -> Any:
    value = value.value if isinstance(value, tl.constexpr) else value
    return value.handle.data.item() if isinstance(value, tl.tensor) else value


class _Driver:
    """A driver without a GPU behind it."""

    utils = SimpleNamespace(get_device_properties=lambda _: {"multiprocessor_count": 1, "max_shared_mem": 1 << 20})

    def get_current_target(self) -> Any:
        return SimpleNamespace(backend="cpu", arch="", warp_size=32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_benchmarker(self) -> Any:
        return lambda call, **_: (
            [0.0] * 3
        )  # any choice of block sizes will do, and running each to choose takes minutes

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: Any = None) -> int:
        return 0

    def get_device_interface(self) -> Any:
        return torch.cpu


_patch_lang = interpreter._patch_lang


def _patched(function: Any) -> Any:
    scope = _patch_lang(function)
    function.__globals__["range"] = _range  # a kernel's own, not tl.range
    return scope


def _log1p(x: Any) -> Any:
    return tl.log(1.0 + x)


interpreter._patch_lang = _patched
libdevice.log1p = _log1p  # what a GPU's own library computes is nothing here, and says so nowhere
triton.runtime.driver.set_active(_Driver())
