"""The theorem's bound, with its constants. They are loose: the bound is for reading, not for testing against."""

from __future__ import annotations

import math
from typing import NamedTuple

from safetyvalve.errors import UsageError

__all__ = ["Bound", "log_cover", "suboptimality_bound"]


class Bound(NamedTuple):
    """Theorem 5.3 at given sizes.

    iota: ``sqrt(log(covering number / delta))``.
    eta, beta: the settings for which it holds.
    epsilon: the resolution of the cover.
    bound: the suboptimality that is not exceeded with probability 1 - delta, in reward units.
    """

    iota: float
    eta: float
    beta: float
    epsilon: float
    bound: float


def log_cover(parameters: int, reward_range: float, epsilon: float) -> float:
    """Log covering number of the box ``[0, reward_range]^parameters`` in the largest coordinate."""
    return parameters * math.log(math.ceil(reward_range / (2 * epsilon)))


def suboptimality_bound(
    n: int,
    *,
    reward_range: float,
    coverage: float,
    kl: float,
    log_covering: float | None = None,
    parameters: int | None = None,
    delta: float = 0.05,
) -> Bound:
    """The bound on the gap to a comparator.

    Source: arXiv 2405.16436, theorem 5.3, with kappa kept in eta (the appendix's (A.45) drops it).

    Args:
        n: comparisons in the data, at least 1.
        reward_range: R, the width of the box that rewards lie in.
        coverage: C of the comparator relative to the baseline, see :mod:`safetyvalve.testbed.coverage`.
        kl: E KL(comparator || reference), in nats.
        log_covering: log covering number of the rewards at ``epsilon``; or give ``parameters``, the cells of a
            tabular reward.
        delta: probability with which it may fail.

    Raises:
        UsageError: a size out of range, or neither covering number nor parameters.
    """
    if n < 1 or not reward_range > 0 or not 0 < delta < 1 or not coverage >= 0 or not kl >= 0:
        raise UsageError(
            f"n={n}, reward_range={reward_range}, coverage={coverage}, kl={kl}, delta={delta}; n must be at least "
            "1, reward_range above 0, coverage and kl at least 0, delta between 0 and 1."
        )
    steep = 1 + math.exp(reward_range)
    epsilon = 1 / (6 * steep * n)
    if log_covering is None:
        if parameters is None:
            raise UsageError("neither log_covering nor parameters was given; pass one of them.")
        log_covering = log_cover(parameters, reward_range, epsilon)
    iota = math.sqrt(log_covering + math.log(1 / delta))
    eta = math.sqrt(24) * iota / (steep**2 * math.sqrt(n))
    bound = (math.sqrt(6) * steep**2 * (coverage**2 + 1) * iota + 4 * kl) / (4 * math.sqrt(n))
    return Bound(iota, eta, 1 / math.sqrt(n), epsilon, bound)
