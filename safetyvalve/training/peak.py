"""The fastest matrix product of this machine, which a step's time is held against."""

from __future__ import annotations

import time

import torch

__all__ = ["gemm_peak"]

_SHAPES = ((1024, 576, 576), (1024, 576, 1536), (1024, 1536, 576), (1024, 576, 3072), (2048, 2048, 2048))
"""Rows, inner, columns: those of a small model on a row of a thousand tokens, and one that fills the caches."""


def gemm_peak(dtype: torch.dtype, *, seconds: float = 2.0) -> float:
    """Operations a second of the best product of its type, over plain, transposed and several shapes.

    Args:
        dtype: what is multiplied.
        seconds: to measure for, over all shapes.
    """
    best = 0.0
    for rows, inner, columns in _SHAPES:
        a, b = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
        g = torch.randn(rows, columns).to(dtype)
        for left, right in ((a, b.t()), (g, b), (g.t(), a)):
            torch.mm(left, right)
            until = time.perf_counter() + seconds / (3 * len(_SHAPES))
            while time.perf_counter() < until:
                begun = time.perf_counter()
                torch.mm(left, right)
                best = max(best, 2 * rows * inner * columns / (time.perf_counter() - begun))
    return best
