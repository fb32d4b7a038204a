"""The fastest matrix product of this machine, which a step's time is held against."""

from __future__ import annotations

import time

import torch

__all__ = ["GemmPeak"]

_SHAPES = ((1024, 576, 576), (1024, 576, 1536), (1024, 1536, 576), (1024, 576, 3072), (2048, 2048, 2048))
"""Rows, inner, columns: those of a small model on a row of a thousand tokens, and one that fills the caches."""


class GemmPeak:
    """The best of torch's products of a type, over plain, transposed and several shapes.

    Args:
        dtype: what is multiplied.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._products = []
        for rows, inner, columns in _SHAPES:
            a, b = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
            g = torch.randn(rows, columns).to(dtype)
            self._products += [(2 * rows * inner * columns, *pair) for pair in ((a, b.t()), (g, b), (g.t(), a))]
        for _, left, right in self._products:
            torch.mm(left, right)

    def measure(self, seconds: float = 2.0) -> float:
        """Operations a second, now.

        Args:
            seconds: to measure for, over all products, each of which is computed at least twice.
        """
        best = 0.0
        for operations, left, right in self._products:
            until = time.perf_counter() + seconds / len(self._products)
            goes = 0
            while goes < 2 or time.perf_counter() < until:
                begun = time.perf_counter()
                torch.mm(left, right)
                best = max(best, operations / (time.perf_counter() - begun))
                goes += 1
        return best
