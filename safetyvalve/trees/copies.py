"""Copies of weights in the type that is computed in, made once for everything that is computed with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

__all__ = ["copied_bytes", "copy_of", "kept_copies"]

T = TypeVar("T")

_copies: ContextVar[dict[tuple[int, torch.dtype], tuple[object, Any]] | None] = ContextVar(
    "safetyvalve_copies", default=None
)


@contextmanager
def kept_copies() -> Iterator[None]:
    """Within it :func:`copy_of` makes each copy once; the weights must not change meanwhile. The outermost counts.

    A fused optimizer leaves no trace on the weights that it changes, so that only a scope can say how long they stay.
    """
    if _copies.get() is not None:
        yield
        return
    token = _copies.set({})
    try:
        yield
    finally:
        _copies.reset(token)


def copy_of(weights: object, dtype: torch.dtype, make: Callable[[], T]) -> T:
    """What ``make`` gives for these weights (a tensor or a module) in this type, kept within :func:`kept_copies`."""
    known = _copies.get()
    if known is None:
        return make()
    key = (id(weights), dtype)
    if key not in known:
        known[key] = (weights, make())  # held with it, so that no other object gets its id
    found: T = known[key][1]
    return found


def copied_bytes() -> int:
    """Of memory that is kept within :func:`kept_copies` now."""
    return sum(int(made.nbytes) for _, made in (_copies.get() or {}).values())
