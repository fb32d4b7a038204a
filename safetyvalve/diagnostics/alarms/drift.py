"""Alarms on a mean that has moved farther than a tolerance since step 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from safetyvalve.diagnostics.alarms.alarm import Alarm, Estimate, check_level, share_of_look
from safetyvalve.errors import UsageError

__all__ = ["Bounds", "Displacement", "Drift"]


class Bounds(NamedTuple):
    """How far a mean may move: ``new <= high_factor * first + add``, and ``new >= low_factor * first`` where given."""

    high_factor: float = 1.0
    add: float = 0.0
    low_factor: float | None = None


class Drift:
    """Compares each evaluation with the first, prompt by prompt.

    Rule: at look k raised where the mean over prompts of ``new - (high_factor * first + add)`` is above 0 by a
    one-sided t test at ``alpha / (k (k + 1))``, or, where there is a lower factor, that of ``low_factor * first - new``
    is; then each side has half of it. A test on ``new - factor * first`` is one on the ratio of means (Fieller).

    Error control: if the mean over prompts like these stays within the bounds at all evaluations, the chance that the
    alarm is ever raised is at most alpha, as far as a t test's level holds for the number of prompts there is.

    Args:
        name: of the alarm.
        bounds: how far the mean may move.
        alpha: chance of a false alarm in a whole run, in (0, 1).
    """

    def __init__(self, name: str, bounds: Bounds, *, alpha: float) -> None:
        self.name, self.bounds, self.alpha = name, bounds, check_level(alpha)
        self._first: dict[str, float] | None = None
        self._first_step = self._looks = 0

    def see(self, step: int, values: Mapping[str, float]) -> Alarm | None:
        """Take the values by prompt; None at the first evaluation, or with fewer than two prompts in common."""
        if not values:
            return None
        if self._first is None:
            self._first, self._first_step = dict(values), step
            return None
        shared = sorted(self._first.keys() & values.keys())
        if len(shared) < 2:
            return None
        self._looks += 1
        first = np.array([self._first[p] for p in shared])
        new = np.array([values[p] for p in shared])
        b, level = self.bounds, share_of_look(self._looks, self.alpha)
        sides = [(1.0, b.high_factor, b.add)]
        if b.low_factor is not None:
            sides, level = [*sides, (-1.0, b.low_factor, 0.0)], level / 2
        excess = [_lower_bound(_estimate(sign * (new - factor * first - add)), level) for sign, factor, add in sides]
        worst = int(np.argmax(excess))
        sign, factor, add = sides[worst]
        limit, value, bound = self._shown(first.mean(), new.mean(), factor, add, sign * excess[worst])
        return Alarm(self.name, step, excess[worst] > 0, value, bound, limit, len(shared), self._first_step)

    def _shown(self, first: float, new: float, factor: float, add: float, excess: float) -> tuple[float, float, float]:
        """Limit, value and bound: as a change where the bounds add, else as a ratio to the first mean."""
        if add or not first:
            return float((factor - 1) * first + add), float(new - first), float((factor - 1) * first + add + excess)
        return factor, float(new / first), float(factor + excess / first)


class Displacement:
    """Watches the change of log-probability of the chosen responses since step 0, in nats per token.

    Rule: at look k raised where the upper end of a one-sided t interval at ``1 - alpha / (k (k + 1))`` is below minus
    the limit. Error control as :class:`Drift`: if the true change is never below minus the limit, it is ever raised
    with a chance of at most alpha.

    Args:
        limit: largest fall that is not called displacement, above 0, in nats per token.
        alpha: chance of a false alarm in a whole run, in (0, 1).
    """

    def __init__(self, limit: float = 0.1, *, alpha: float) -> None:
        if not (math.isfinite(limit) and limit > 0):
            raise UsageError(f"limit is {limit}; a finite number of nats per token above 0 is accepted, such as 0.1.")
        self.limit, self.alpha = limit, check_level(alpha)
        self._looks = 0

    def see(self, step: int, change: Estimate | None) -> Alarm | None:
        """Take an evaluation's change; None where nothing was measured."""
        if change is None:
            return None
        self._looks += 1
        level = share_of_look(self._looks, self.alpha)
        bound = -_lower_bound(change._replace(mean=-change.mean), level)
        return Alarm("displacement", step, bound < -self.limit, change.mean, bound, -self.limit, change.n)


def _estimate(values: np.ndarray) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values))


def _lower_bound(e: Estimate, level: float) -> float:
    """Lower end of the one-sided t interval; minus infinity from one unit."""
    if e.n < 2:
        return -math.inf
    return e.mean - float(stats.t.ppf(1 - level, e.n - 1)) * e.standard_error
