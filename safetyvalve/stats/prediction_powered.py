"""A small sample of human verdicts and many of a judge: prediction-powered inference (PPI++) of a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import Floats, checked_confidence, checked_values
from safetyvalve.stats.intervals import Interval, mean_interval

__all__ = ["PredictionPowered", "ppi_mean"]


class PredictionPowered(NamedTuple):
    """The mean of what people would say, with the judge's help, and beside it without the judge and without people."""

    interval: Interval
    tuning: float
    """Weight of the judge in [0, 1]: 0 when it tells nothing about people's verdicts."""
    human_only: Interval
    judge_only: Interval
    """Of the judge's mean, which is not people's: its interval leaves out that the judge is biased."""

    @property
    def saving(self) -> float:
        """Share of the human verdicts that the judge replaced, as measured; not a number if people all agree."""
        if self.human_only.standard_error == 0:
            return math.nan
        return 1 - (self.interval.standard_error / self.human_only.standard_error) ** 2


def ppi_mean(
    human: Sequence[float] | Floats,
    judge_same: Sequence[float] | Floats,
    judge_other: Sequence[float] | Floats,
    *,
    weights: Sequence[float] | Floats | None = None,
    tuning: float | None = None,
    confidence: float = 0.95,
) -> PredictionPowered:
    """mean(w (human - t judge_same)) + t mean(judge_other), power-tuned (Angelopoulos, Duchi and Zrnic 2023,
    https://arxiv.org/abs/2311.01453), with Student's t on n - 1 degrees of freedom in place of the normal.

    Units are independent, mostly prompts: average a prompt's verdicts before. Valid where the units with human verdicts
    are a random sample of all units. Where they were drawn with unequal chances, pass ``weights``, and all units as
    ``judge_other``: what an unequal draw leaves over is no sample of them.

    Args:
        human: [n] of people; n at least 3.
        judge_same: [n] of the judge on the same units.
        judge_other: [m] of the judge on units that people did not see; m at least 2.
        weights: [n] one over the chance with which a unit was drawn; equal if not given.
        tuning: fixed weight of the judge in [0, 1]; if not given, cov(human, judge) / ((1 + n/m) var(judge)).
        confidence: in (0, 1).

    Raises:
        UsageError: values, lengths or a tuning that are not accepted.
        DataError: too few units.
    """
    checked_confidence(confidence)
    y, f, other = (
        checked_values(v, name)
        for v, name in ((human, "human"), (judge_same, "judge_same"), (judge_other, "judge_other"))
    )
    w = np.ones(y.size) if weights is None else checked_values(weights, "weights")
    if not y.size == f.size == w.size:
        raise UsageError(f"human, judge_same and weights have {y.size}, {f.size} and {w.size} values; one a unit each.")
    if (w <= 0).any():
        raise UsageError(f"a weight is {w.min()}; weights are above 0, one over the chance of being drawn.")
    if y.size < 3 or other.size < 2:
        raise DataError(
            f"there are {y.size} units with human verdicts and {other.size} without; at least 3 and 2 are needed."
        )
    if tuning is not None and not 0 <= tuning <= 1:
        raise UsageError(f"tuning is {tuning}; between 0 (people alone) and 1 (plain PPI) is accepted.")
    w = w / w.mean()
    t = _tuned(y, f, other, w) if tuning is None else tuning
    rest = y - t * f
    centre = float((w * rest).mean())
    n, m = y.size, other.size
    # Linearised: dividing by the sum of the weights takes the mean out of each weighted residual.
    variance = float((w**2 * (rest - centre) ** 2).sum()) / (n * (n - 1)) + t**2 * float(other.var(ddof=1)) / m
    estimate, error = centre + t * float(other.mean()), math.sqrt(variance)
    reach = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return PredictionPowered(
        Interval(estimate, estimate - reach, estimate + reach, error, n),
        t,
        _weighted_mean(y, w, confidence),
        mean_interval(np.concatenate([f, other]).tolist(), confidence=confidence),
    )


def _tuned(y: Floats, f: Floats, other: Floats, w: Floats) -> float:
    spread = float(np.concatenate([f, other]).var(ddof=1))
    if spread == 0:
        return 0.0
    together = float((w**2 * (y - (w * y).mean()) * (f - (w * f).mean())).mean() / (w**2).mean())
    return float(np.clip(together / ((1 + y.size / (other.size * (w**2).mean())) * spread), 0, 1))


def _weighted_mean(y: Floats, w: Floats, confidence: float) -> Interval:
    mean, n = float((w * y).mean()), y.size
    error = math.sqrt(float((w**2 * (y - mean) ** 2).sum()) / (n * (n - 1)))
    reach = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return Interval(mean, mean - reach, mean + reach, error, n)
