"""From tensors to C."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from safetyvalve.native.building import kernels

__all__ = ["PREFIX", "call"]

PREFIX = "safetyvalve::"
"""Of the names under which torch's profiler knows the kernels."""


def call(name: str, *given: Tensor | int | float | None) -> int:
    """Call a kernel with tensors as addresses, integers as 64 bits and floats as 32; the threads of torch come last.

    The kernels trust what they are given: shapes, types and strides are the caller's to check.
    """
    function = getattr(kernels().library, name)
    values = (*(_argument(value) for value in given), ctypes.c_int64(torch.get_num_threads()))
    if not _profiled():
        return int(function(*values))
    with record_function(f"{PREFIX}{name}"):
        return int(function(*values))


def _profiled() -> bool:
    """Not asked of torch's public names, which have none for it; without it, kernels have no names in a profile."""
    return bool(getattr(torch._C._autograd, "_profiler_enabled", bool)())


def _argument(value: Tensor | int | float | None) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    return None if value is None else ctypes.c_int64(value)
