"""Means, differences and slopes with 95% intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safetyvalve.errors import UsageError

__all__ = ["Estimate", "log_slope", "mean"]

Z = 1.959963984540054


class Estimate(NamedTuple):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def mean(values: ArrayLike) -> Estimate:
    """Mean over independent data sets, normal interval. For a paired difference, pass the differences.

    Raises:
        UsageError: fewer than two values.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2:
        raise UsageError(f"an interval was asked of shape {data.shape}; it needs a vector of at least 2 data sets.")
    centre, half = float(data.mean()), Z * float(data.std(ddof=1)) / math.sqrt(len(data))
    return Estimate(centre, centre - half, centre + half)


def log_slope(
    x: ArrayLike, samples: NDArray[np.float64], statistic: str, rng: np.random.Generator, draws: int = 400
) -> Estimate:
    """Slope of ``log statistic`` against ``log x``, with an interval by resampling data sets.

    Args:
        x: (size,) what is varied, above 0.
        samples: (size, candidate, set) the measured gap.
        statistic: "worst", the largest mean over candidates.
        rng: draws the resamples.
    """
    if statistic != "worst":
        raise UsageError(f"statistic is '{statistic}'; accepted: worst.")
    log_x = np.log(np.asarray(x, dtype=np.float64))

    def slope(data: NDArray[np.float64]) -> float:
        worst = np.maximum(data.mean(-1).max(-1), 1e-300)
        return float(np.polyfit(log_x, np.log(worst), 1)[0])

    sets = samples.shape[-1]
    draws_ = [slope(samples[..., rng.integers(0, sets, sets)]) for _ in range(draws)]
    low, high = np.quantile(draws_, [0.025, 0.975])
    return Estimate(slope(samples), float(low), float(high))
