"""Has a reward model gone stale? Its accuracy on newer human votes against that on its held-out comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from scipy import stats

from safetyvalve.errors import UsageError
from safetyvalve.rewards.evaluation import accuracy_interval
from safetyvalve.rewards.scores import Floats
from safetyvalve.stats import Interval

__all__ = ["Staleness", "staleness"]

Finding = Literal["stale", "not shown to be stale", "too few"]


class Staleness(NamedTuple):
    """What newer votes say."""

    finding: Finding
    new: Interval
    """Accuracy on the newer votes."""
    held_out: Interval
    change: Interval
    """New less held-out, with a 95% interval (Welch, over clusters)."""
    smallest_drop: float
    """What the interval was to be able to exclude."""


def staleness(
    new: tuple[Floats, Sequence[str]], held_out: tuple[Floats, Sequence[str]], *, smallest_drop: float = 0.1
) -> Staleness:
    """Compare two sets of comparisons.

    ``stale``: the whole interval of the change lies below 0. ``not shown to be stale``: it does not, and it excludes a
    drop of ``smallest_drop``. ``too few``: it does neither, so that the votes do not tell. A change may also be one of
    the people, the prompts or the models that answered; only the accuracy is compared.

    Args:
        new, held_out: margins of the comparisons (finite) and their clusters.
        smallest_drop: in accuracy, in (0, 1).

    Raises:
        UsageError: a drop out of range, or no comparisons.
    """
    if not 0 < smallest_drop < 1:
        raise UsageError(f"--drop is {smallest_drop}; a drop of accuracy between 0 and 1 is accepted, such as 0.1.")
    after, before = accuracy_interval(*new), accuracy_interval(*held_out)
    change = _difference(after, before)
    finding: Finding = "too few"
    if change.high < 0:
        finding = "stale"
    elif change.low > -smallest_drop:
        finding = "not shown to be stale"
    return Staleness(finding, after, before, change, smallest_drop)


def _difference(one: Interval, other: Interval) -> Interval:
    """Welch's interval of the difference of two independent clustered means."""
    estimate, n = one.estimate - other.estimate, min(one.n, other.n)
    if n < 2:
        return Interval(estimate, -math.inf, math.inf, math.inf, n)
    parts = [(i.standard_error**2, i.n - 1) for i in (one, other)]
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return Interval(estimate, estimate, estimate, 0.0, n)
    degrees = variance**2 / sum(v**2 / d for v, d in parts)
    error = math.sqrt(variance)
    reach = float(stats.t.ppf(0.975, degrees)) * error
    return Interval(estimate, estimate - reach, estimate + reach, error, n)
