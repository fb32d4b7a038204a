"""What the members of an ensemble say of responses, and the named formulas that make one number of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.errors import UsageError

__all__ = ["AGGREGATIONS", "Scores", "aggregate", "check_aggregation", "spread"]

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """Rewards of the responses to one prompt. NaN is unscored, never a score."""

    members: Floats
    """[member, response]."""
    width: Floats | None = None
    """[response]: sqrt(e' A^-1 e), see :mod:`safetyvalve.rewards.width`; None where the model has none."""
    reasons: tuple[str | None, ...] = ()
    """[response]: why there is no score; None where there is one."""


def spread(members: Floats) -> Floats:
    """[response]: population standard deviation over the members, ``sqrt(mean_m (r_m - mean r)^2)``; 0 for one."""
    deviation: Floats = np.asarray(members, dtype=np.float64).std(axis=0, ddof=0)
    return deviation


_FORMULAS: dict[str, Callable[[Floats, float], Floats]] = {
    "mean": lambda r, k: r.mean(axis=0),
    "min": lambda r, k: r.min(axis=0),
    "mean-std": lambda r, k: r.mean(axis=0) - k * r.std(axis=0, ddof=0),
    "mean-variance": lambda r, k: r.mean(axis=0) - k * r.var(axis=0, ddof=0),
}
AGGREGATIONS = tuple(_FORMULAS)
"""Names of the formulas. ``mean-std`` is mean - k * std, ``mean-variance`` mean - k * var. Both take the population's
variance, ``mean_m (r_m - mean r)^2``, divided by the members and not by one less."""


def check_aggregation(method: str, k: float) -> None:
    """Raises UsageError for an unknown name, or a k below 0 or not finite."""
    if method not in _FORMULAS:
        raise UsageError(f"aggregation is '{method}'; accepted: {', '.join(_FORMULAS)}.")
    if not (math.isfinite(k) and k >= 0):
        raise UsageError(f"k is {k}; it must be a finite number of at least 0, such as 1.")


def aggregate(members: Floats, method: str = "mean", *, k: float = 1.0) -> Floats:
    """One reward a response.

    Source: ``mean-variance`` with k its lambda is uncertainty-weighted optimisation, ``min`` worst-case optimisation of
    arXiv 2310.02743, section 3.

    Args:
        members: [member, response].
        method: one of :data:`AGGREGATIONS`.
        k: of ``mean-std`` and ``mean-variance``, at least 0.

    Returns:
        [response]; NaN where any member gave no score: the others cannot stand for it.

    Raises:
        UsageError: another method, a k out of range, no member, or infinite rewards.
    """
    check_aggregation(method, k)
    array = np.asarray(members, dtype=np.float64)
    if array.ndim != 2 or not len(array):
        raise UsageError(f"members have shape {array.shape}; [member, response] with at least one member is accepted.")
    if np.isinf(array).any():
        raise UsageError("a member's reward is infinite; finite rewards, or NaN for unscored, are accepted.")
    return _FORMULAS[method](array, k)
