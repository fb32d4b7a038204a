"""Win rate at equal length: what is left when one model is not allowed to win by writing more."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import Floats, checked_values
from safetyvalve.stats.intervals import Interval
from safetyvalve.stats.logistic import logistic_fit

__all__ = ["LengthControlled", "length_controlled_win_rate"]


class LengthControlled(NamedTuple):
    """Win rate that the fitted model expects at equal length, and how much length counted."""

    interval: Interval
    slope: Interval
    """Log-odds for one standard deviation of length difference (near zero difference)."""
    spread: float
    """Standard deviation of the length differences, in the unit of the lengths."""
    longer: float
    """Share of comparisons in which the first model's answer was the longer one."""

    @property
    def extrapolated(self) -> bool:
        """Fewer than one comparison in twenty lies on the other side of equal length: the rate is extrapolated."""
        return not 0.05 <= self.longer <= 0.95


def length_controlled_win_rate(
    scores: Sequence[float] | Floats,
    length_a: Sequence[float] | Floats,
    length_b: Sequence[float] | Floats,
    prompts: Sequence[Hashable],
    *,
    annotators: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> LengthControlled:
    """sigmoid(theta) of score ~ sigmoid(theta + phi tanh(d / sd(d))), d = length_a - length_b.

    The length term of AlpacaEval 2 (Dubois et al. 2024, https://arxiv.org/abs/2404.04475), centred at equal length
    (d = 0), not at the mean difference. Its term for the difficulty of each instruction is left out: it needs many
    models at once and moves the rate of one pair little. The interval is made on the log-odds and carried over.

    Args:
        scores: [n] in [0, 1], from the side of model a.
        length_a, length_b: [n] lengths in one and the same unit.
        prompts: [n] labels.
        annotators: [n] labels of a second way of clustering.
        confidence: in (0, 1).

    Raises:
        UsageError: values or shapes that are not accepted.
        DataError: all differences equal or all far from zero, one cluster, or separated data (a model won everything).
    """
    y = checked_values(scores, "scores", low=0, high=1)
    a = checked_values(length_a, "length_a", low=0, high=np.inf)
    b = checked_values(length_b, "length_b", low=0, high=np.inf)
    if not y.size == a.size == b.size:
        raise UsageError(
            f"there are {y.size} scores, {a.size} and {b.size} lengths; one of each a verdict is accepted."
        )
    difference = a - b
    spread = float(difference.std())
    if not spread > 0:
        raise DataError(f"all length differences are {difference[0]:g}; without spread, length cannot be controlled.")
    term = np.tanh(difference / spread)
    if np.ptp(term) < 0.05:
        raise DataError(
            f"length differences run from {difference.min():g} to {difference.max():g}, all far from zero; a rate at "
            "equal length would be made up: compare answers of similar length too."
        )
    design = np.column_stack([np.ones(y.size), term])
    fit = logistic_fit(design, y, prompts, crossed=annotators, confidence=confidence)
    theta, phi = (float(v) for v in fit.coefficients)
    reach, slope = fit.reach(np.array([1.0, 0.0])), fit.reach(np.array([0.0, 1.0]))
    rate = float(expit(theta))
    units = fit.degrees + 1
    error = reach / fit.quantile
    return LengthControlled(
        Interval(rate, float(expit(theta - reach)), float(expit(theta + reach)), error * rate * (1 - rate), units),
        Interval(phi, phi - slope, phi + slope, slope / fit.quantile, units),
        spread,
        float(np.mean(np.where(difference == 0, 0.5, difference > 0))),
    )
