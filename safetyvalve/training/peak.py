"""The fastest matrix product of this machine, which a step's time is held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from safetyvalve.native import kernels
from safetyvalve.trees.products import operand

__all__ = ["GemmPeak"]

_SHAPES = ((1024, 576, 576), (1024, 576, 1536), (1024, 1536, 576), (1024, 576, 3072), (2048, 2048, 2048))
"""Rows, inner, columns: those of a small model on a row of a thousand tokens, and one that fills the caches."""


class GemmPeak:
    """The best of torch's products of a type and of ours, over plain, transposed and several shapes.

    Args:
        dtype: what is multiplied.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._products: list[tuple[int, Callable[[], object]]] = []
        for rows, inner, columns in _SHAPES:
            a, matrix, g = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner), torch.randn(rows, columns)
            b, g = matrix.to(dtype), g.to(dtype)
            ways: list[Callable[[], object]] = [partial(torch.mm, *pair) for pair in ((a, b.t()), (g, b), (g.t(), a))]
            if kernels().tiles or kernels().vectors:
                ours = operand([matrix], dtype)
                ways += [partial(ours.product, a), partial(ours.back, g), partial(ours.slopes, g, a)]
            self._products += [(2 * rows * inner * columns, way) for way in ways]
        for _, compute in self._products:
            compute()

    def measure(self, seconds: float = 2.0) -> float:
        """Operations a second, now.

        Args:
            seconds: to measure for, over all products, each of which is computed at least twice.
        """
        best = 0.0
        for operations, compute in self._products:
            until = time.perf_counter() + seconds / len(self._products)
            goes = 0
            while goes < 2 or time.perf_counter() < until:
                begun = time.perf_counter()
                compute()
                best = max(best, operations / (time.perf_counter() - begun))
                goes += 1
        return best
