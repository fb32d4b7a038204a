"""Means, differences and slopes with 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safetyvalve.errors import UsageError

__all__ = ["Estimate", "log_slope", "mean", "peak", "worst"]

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
    x: ArrayLike,
    samples: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    draws: int = 400,
) -> Estimate:
    """Slope of ``log statistic`` against ``log x``, with an interval by resampling data sets.

    Args:
        x: (size,) what is varied, above 0.
        samples: (size, candidate, set) what was measured.
        statistic: takes such an array to (size,), above 0.
        rng: draws the resamples.
    """
    log_x = np.log(np.asarray(x, dtype=np.float64))

    def slope(data: NDArray[np.float64]) -> float:
        return float(np.polyfit(log_x, np.log(np.maximum(statistic(data), 1e-300)), 1)[0])

    sets = samples.shape[-1]
    resampled = [slope(samples[..., rng.integers(0, sets, sets)]) for _ in range(draws)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(slope(samples), float(low), float(high))


def worst(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """(size, candidate, set) to (size,): the largest mean over candidates."""
    result: NDArray[np.float64] = samples.mean(-1).max(-1)
    return result


def peak(log_x: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Where a curve is highest: the top of the parabola through its best point and the neighbours of that.

    A best point at either end is returned as it is: nothing says where the peak beyond it would be.
    """
    i = int(values.argmax())
    if i in (0, len(values) - 1):
        return float(log_x[i])
    left, top, right = values[i - 1 : i + 2]
    bend = left - 2 * top + right
    step = log_x[i + 1] - log_x[i]
    return float(log_x[i] + (0.5 * step * (left - right) / bend if bend < 0 else 0.0))
