"""People's mean with a judge's help, at any time: prediction-powered inference by betting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import Floats, checked_values
from safetyvalve.stats.two_arms import bounded, log_e_difference, lower_difference, lower_mean

__all__ = ["Corrected", "corrected_interval", "log_e_corrected"]


class Corrected(NamedTuple):
    """A mean of people's scores, and bounds of which each holds at all times at once with chance 1 - alpha."""

    estimate: float
    low: float
    high: float
    people: int
    """Units with people's scores."""
    judge: int
    """Units with a judge's score only; 0 where people's scores stand alone."""


def corrected_interval(
    human: Sequence[float] | Floats,
    judge_same: Sequence[float] | Floats = (),
    judge_other: Sequence[float] | Floats = (),
    *,
    weight: float = 0.5,
    alpha: float = 0.05,
) -> Corrected:
    """Bounds of people's mean score; with ``weight`` above 0 and judged units, helped by the judge.

    E[human] = E[human - t judge] + t E[judge]: the sum of two means in known ranges, seen on two samples, to which
    :mod:`safetyvalve.stats.two_arms` applies as to a difference. It is the anytime-valid counterpart of PPI++
    (https://arxiv.org/abs/2311.01453) and right however biased the judge is. The weight t is given beforehand: a tuned
    one would look at the data first.

    Args:
        human: [n] in [0, 1], of units drawn at random from all units.
        judge_same: [n] of the judge on the same units, or empty.
        judge_other: [m] of the judge on other units, or empty.
        weight: t in [0, 1].
        alpha: of each bound alone.

    Raises:
        UsageError: values, lengths or a weight that are not accepted.
        DataError: no unit with a human score.
    """
    parts = _parts(human, judge_same, judge_other, weight)
    scale = 1 + parts.weight  # the shift cancels in the difference
    if not parts.helped:
        x = parts.people
        low = lower_mean(bounded(x, upward=False), alpha)
        high = 1 - lower_mean(bounded(1 - x, upward=False), alpha)
        return Corrected(float(x.mean()), low, high, x.size, 0)
    d, f = parts.people, parts.judge
    low = scale * lower_difference(bounded(d, upward=False), bounded(f, upward=True), alpha)
    high = -scale * lower_difference(bounded(f, upward=False), bounded(d, upward=True), alpha)
    estimate = scale * (float(d.mean()) - float(f.mean()))
    return Corrected(estimate, max(low, 0.0), min(high, 1.0), d.size, f.size)


def log_e_corrected(
    human: Sequence[float] | Floats,
    judge_same: Sequence[float] | Floats = (),
    judge_other: Sequence[float] | Floats = (),
    *,
    null: float,
    side: str,
    weight: float = 0.5,
) -> float:
    """log of the e-value against "people's mean is at most null" (side ``above``) or at least null (``below``)."""
    if side not in ("above", "below"):
        raise UsageError(f"side is {side!r}; above and below are accepted.")
    parts = _parts(human, judge_same, judge_other, weight)
    d, f = parts.people, parts.judge
    scale = 1 + parts.weight
    if not parts.helped:
        arm = bounded(d if side == "above" else 1 - d, upward=False)
        return float(arm.capital(np.array([null if side == "above" else 1 - null]))[0])
    if side == "above":
        first, second, at = bounded(d, upward=False), bounded(f, upward=True), null / scale
    else:
        first, second, at = bounded(f, upward=False), bounded(d, upward=True), -null / scale
    return float(log_e_difference(first, second, at)[0])


class _Parts(NamedTuple):
    people: Floats
    """[n] in [0, 1]: human - t judge, shifted and scaled; human alone without help."""
    judge: Floats
    """[m] in [0, 1]: minus t judge, shifted and scaled alike."""
    weight: float
    helped: bool


def _parts(
    human: Sequence[float] | Floats,
    same: Sequence[float] | Floats,
    other: Sequence[float] | Floats,
    weight: float,
) -> _Parts:
    if not 0 <= weight <= 1:
        raise UsageError(f"weight is {weight}; between 0 (people alone) and 1 is accepted.")
    if not len(human):
        raise DataError("there are no verdicts of people; a judge's alone say nothing of people.")
    y = checked_values(human, "human", low=0, high=1)
    if weight == 0 or not len(other) or not len(same):
        return _Parts(y, np.zeros(0), 0.0, False)
    f, rest = (checked_values(v, name, low=0, high=1) for v, name in ((same, "judge_same"), (other, "judge_other")))
    if f.size != y.size:
        raise UsageError(f"human and judge_same have {y.size} and {f.size} values; one a unit each.")
    scale = 1 + weight
    d = np.clip((y - weight * f + weight) / scale, 0, 1)
    minus = np.clip((weight - weight * rest) / scale, 0, 1)
    return _Parts(d, minus, weight, True)
