"""The coverage coefficient: how well data can tell a comparator from the baseline."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.testbed.problem import Problem

__all__ = ["coverage", "laplacian", "linear_coverage"]


def laplacian(pair_law: Float[Tensor, "*batch action action"]) -> Float[Tensor, "*batch action action"]:
    """Second moment of ``e_a - e_b`` over compared pairs: the Laplacian of the graph of comparisons.

    Either triangle, or both, may hold the law: the weight of the edge {a, b} is the sum of the two entries.
    """
    edges = pair_law + pair_law.transpose(-1, -2)
    edges = edges - torch.diag_embed(edges.diagonal(dim1=-2, dim2=-1))
    return torch.diag_embed(edges.sum(-1)) - edges


def coverage(
    problem: Problem,
    comparator: Float[Tensor, "set prompt action"],
    base: Float[Tensor, "set prompt action"],
) -> Float[Tensor, "set"]:
    """Coverage coefficient of a comparator relative to a baseline, tabular rewards with r* inside the box.

    ``C = sqrt(sum_x c_x^T M_x^+ c_x)`` with ``c = d0 (comparator - base)`` and M the Laplacian of the compared
    pairs: an effective resistance. Infinite exactly if some c is outside the range of M, which is when the
    comparator and the baseline are not linked by comparisons.

    Source: arXiv 2405.16436, definition 5.2, whose supremum this is.
    """
    direction = problem.d0[..., None] * (comparator - base)
    return _resistance(laplacian(problem.pair_law), direction).sum(-1).sqrt()


def linear_coverage(
    problem: Problem,
    features: Float[Tensor, "set prompt action parameter"],
    comparator: Float[Tensor, "set prompt action"],
    base: Float[Tensor, "set prompt action"],
) -> Float[Tensor, "set"]:
    """The same for rewards ``features @ w``: ``sqrt(v^T Sigma^+ v)``, Sigma the second moment of differences."""
    if features.shape[:3] != comparator.shape:
        raise UsageError(
            f"features have shape {tuple(features.shape)} for policies {tuple(comparator.shape)}; "
            "they must be (set, prompt, action, parameter)."
        )
    direction = torch.einsum("sx,sxa,sxap->sp", problem.d0, comparator - base, features)
    moment = torch.einsum("sxap,sxab,sxbq->spq", features, laplacian(problem.pair_law), features)
    return _resistance(moment, direction).sqrt()


def _resistance(matrix: Tensor, direction: Tensor) -> Tensor:
    """``direction^T matrix^+ direction``, infinite outside the range of the matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    along = torch.einsum("...ap,...a->...p", vectors, direction)
    # Rounding puts zero eigenvalues at 1e-17 or so; a pair that is compared once in 1e12 is still seen.
    seen = values > 1e-13 * values.amax(-1, keepdim=True).clamp_min(1e-300)
    outside = torch.where(seen, torch.zeros_like(along), along).abs().amax(-1) > 1e-9
    total = torch.where(seen, along**2 / values.clamp_min(1e-300), torch.zeros_like(along)).sum(-1)
    return torch.where(outside, torch.full_like(total, math.inf), total)
