"""What a candidate changes: e-values and bounds of "candidate minus control", or minus a level, in three designs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safetyvalve.stats.clusters import Floats
from safetyvalve.stats.corrected import corrected_interval, log_e_corrected
from safetyvalve.stats.two_arms import (
    Arm,
    bounded,
    gaussian,
    log_e_difference,
    log_e_mean,
    lower_difference,
    lower_mean,
)
from safetyvalve.stats.two_arms import beyond as difference_beyond

__all__ = ["Arms", "Change", "Helped", "OneMean", "arms", "one_mean", "pairs"]


@dataclass(frozen=True)
class OneMean:
    """The mean of one series against a centre: a level, or no change where the series are differences of pairs.

    Values are in the unit of ``scale``: a change of 1 here is ``scale`` in the metric's unit.
    """

    up: Arm
    """Values, rounded down."""
    down: Arm
    """One minus the values, rounded down."""
    centre: float
    scale: float

    def at_most(self, change: float) -> Floats:
        """log e against "the change is at most this", in the metric's unit, [T]."""
        return log_e_mean(self.up, self.centre + change / self.scale)

    def at_least(self, change: float) -> Floats:
        return log_e_mean(self.down, 1 - (self.centre + change / self.scale))

    def more_than(self, change: float, threshold: float) -> NDArray[np.bool_]:
        """Whether "at most this" is refuted, [T]."""
        return np.asarray(self.at_most(change) >= threshold)

    def less_than(self, change: float, threshold: float) -> NDArray[np.bool_]:
        return np.asarray(self.at_least(change) >= threshold)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Of the first series, each at level alpha at all times at once."""
        low = lower_mean(self.up, alpha) - self.centre
        high = 1 - lower_mean(self.down, alpha) - self.centre
        return low * self.scale, high * self.scale


@dataclass(frozen=True)
class Arms:
    """Two series of units that were split at random."""

    candidate_up: Arm
    """Rounded down, against a control rounded up: what "more than" is shown with."""
    control_up: Arm
    candidate_down: Arm
    control_down: Arm
    scale: float

    def at_most(self, change: float) -> Floats:
        return log_e_difference(self.candidate_up, self.control_up, change / self.scale)

    def at_least(self, change: float) -> Floats:
        return log_e_difference(self.control_down, self.candidate_down, -change / self.scale)

    def more_than(self, change: float, threshold: float) -> NDArray[np.bool_]:
        return difference_beyond(self.candidate_up, self.control_up, change / self.scale, threshold)

    def less_than(self, change: float, threshold: float) -> NDArray[np.bool_]:
        return difference_beyond(self.control_down, self.candidate_down, -change / self.scale, threshold)

    def bounds(self, alpha: float) -> tuple[float, float]:
        low = lower_difference(self.candidate_up, self.control_up, alpha)
        high = -lower_difference(self.control_down, self.candidate_down, alpha)
        return low * self.scale, high * self.scale


@dataclass(frozen=True)
class Helped:
    """People's scores in [0, 1] against a level, with a judge's on further units."""

    human: Floats
    judge_same: Floats
    judge_other: Floats
    level: float
    weight: float

    def at_most(self, change: float) -> Floats:
        return self._log_e(change, "above")

    def at_least(self, change: float) -> Floats:
        return self._log_e(change, "below")

    def _log_e(self, change: float, side: str) -> Floats:
        at = self.level + change
        return np.array(
            [log_e_corrected(self.human, self.judge_same, self.judge_other, null=at, side=side, weight=self.weight)]
        )

    def bounds(self, alpha: float) -> tuple[float, float]:
        found = corrected_interval(self.human, self.judge_same, self.judge_other, weight=self.weight, alpha=alpha)
        return found.low - self.level, found.high - self.level


Change = OneMean | Arms | Helped


def one_mean(values: Floats, limits: tuple[float, float] | None, level: float) -> OneMean:
    """The candidate alone, [n], against a level; ``limits`` None where values have no bounds."""
    if limits is None:
        return OneMean(gaussian(values), gaussian(1 - values), level, 1.0)
    low, high = limits
    x = np.clip((values - low) / (high - low), 0, 1)
    centre = (level - low) / (high - low)
    return OneMean(bounded(x, upward=False), bounded(1 - x, upward=False), centre, high - low)


def pairs(candidate: Floats, control: Floats, limits: tuple[float, float] | None) -> OneMean:
    """Both models on the same units, [n] each: the mean difference against none."""
    if limits is None:
        return one_mean(candidate - control, None, 0.0)
    reach = limits[1] - limits[0]
    differences = np.clip(candidate, *limits) - np.clip(control, *limits)
    return one_mean(differences, (-reach, reach), 0.0)


def arms(candidate: Floats, control: Floats, limits: tuple[float, float] | None) -> Arms:
    """Each model on units of its own, [n] and [m]."""
    if limits is None:
        one, two = gaussian(candidate), gaussian(control)
        return Arms(one, two, one, two, 1.0)
    low, high = limits
    x, y = (np.clip((v - low) / (high - low), 0, 1) for v in (candidate, control))
    return Arms(
        bounded(x, upward=False),
        bounded(y, upward=True),
        bounded(x, upward=True),
        bounded(y, upward=False),
        high - low,
    )
