"""Differences of two means that may be looked at after every value: e-values and confidence sequences.

The capital that bets on one arm's mean being above m and the capital that bets on the other's being below m - d are
martingales if m and m - d are the means, and so is their product, in whatever order the two arms' values arrive. Which
means have the difference d is not known, so the least product over all of them counts: it is at most the product at the
true ones, hence an e-process (a least over the null of test martingales: Ramdas, Ruf, Larsson and Koolen 2020,
https://arxiv.org/abs/2009.03167). It also tests "at most d", because capital that bets on "above m" falls in m.

Each bet's log capital, log(1 - c + c x / m), is convex in m; so are sums of them and log-sum-exp of those, and so is
the product's logarithm along m. Hence its least value is found by golden section, and a bound by halving.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_ndtr

from safetyvalve.errors import UsageError
from safetyvalve.stats.clusters import Floats
from safetyvalve.stats.sequential import log_capital

__all__ = [
    "Bounded",
    "Gaussian",
    "beyond",
    "bounded",
    "gaussian",
    "log_e_difference",
    "log_e_mean",
    "lower_difference",
    "lower_mean",
]

LEVELS = 400
"""Values of one arm are told apart this finely (in its range), rounded against the statement that is tested."""
BETS = np.concatenate([np.geomspace(1e-4, 0.5, 24), [0.65, 0.8, 0.95]])
"""Smaller than for win rates: the bet that suits a mean m is about m times the one that suits one half."""
GOLDEN = (math.sqrt(5) - 1) / 2
STEPS = 22
WARP = 12.0
"""Golden section goes along the logit of the place in its range, from minus to plus this: rates near 0 need it."""
HALVINGS = 20
EDGE = 1e-9
TUNED_AT = 500
"""Values at which the normal mixture is narrowest."""
ALPHA = 0.05
RHO2 = (-2 * math.log(2 * ALPHA) + math.log(1 - 2 * math.log(2 * ALPHA))) / TUNED_AT
"""Variance of the mixture in units of 1 / the values' variance (Waudby-Smith et al. 2021, appendix B.2)."""


class Bounded(NamedTuple):
    """Values in [0, 1] of T series: which values there are, and how often each was seen."""

    levels: Floats
    """[V]"""
    counts: Floats
    """[T, V]"""

    def mirrored(self) -> Bounded:
        return Bounded(1 - self.levels, self.counts)

    def capital(self, m: Floats) -> Floats:
        """log of the capital that bets on a mean above m, [T]; exact at every sample size."""
        return log_capital(self.levels, self.counts, np.clip(m, EDGE, 1 - EDGE), BETS)

    @property
    def means(self) -> Floats:
        return np.asarray(self.counts @ self.levels / np.maximum(self.counts.sum(axis=1), 1))

    @property
    def domain(self) -> tuple[float, float]:
        return 0.0, 1.0


class Gaussian(NamedTuple):
    """T series of values without bounds, by their number, mean and standard deviation, [T] each.

    Statements hold in the limit of many values only, whatever the values' distribution with a finite variance is
    (asymptotic confidence sequences: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021,
    https://arxiv.org/abs/2103.06476).
    """

    n: Floats
    mean: Floats
    deviation: Floats

    def mirrored(self) -> Gaussian:
        return Gaussian(self.n, 1 - self.mean, self.deviation)

    def capital(self, m: Floats) -> Floats:
        """log of the mean of exp(k S - k^2 n / 2) over half-normal k, S the standardised sum above m."""
        scale = np.maximum(self.deviation, 1e-12)
        s = self.n * (self.mean - m) / scale
        spread = self.n * RHO2 + 1
        x = s * math.sqrt(RHO2) / np.sqrt(spread)
        return np.asarray(math.log(2) - np.log(spread) / 2 + x**2 / 2 + log_ndtr(x))

    @property
    def means(self) -> Floats:
        return self.mean

    @property
    def domain(self) -> tuple[float, float]:
        reach = 20 * float(np.max(self.deviation, initial=1e-12))
        return float(self.mean.min()) - reach, float(self.mean.max()) + reach


Arm = Bounded | Gaussian


def bounded(values: Floats, *, upward: bool) -> Bounded:
    """One series of values in [0, 1], told apart at :data:`LEVELS` steps where there are more distinct ones.

    Args:
        values: [n].
        upward: round up, else down: the direction in which the statement that is tested becomes harder to show.
    """
    levels, counts = np.unique(values, return_counts=True)
    if levels.size > LEVELS:
        turn = np.ceil if upward else np.floor
        levels, counts = np.unique(np.clip(turn(values * LEVELS) / LEVELS, 0, 1), return_counts=True)
    return Bounded(levels, counts[None].astype(np.float64))


def gaussian(values: Floats) -> Gaussian:
    """One series of values, by its summary."""
    return Gaussian(
        np.array([float(values.size)]), np.array([values.mean()]), np.array([values.std(ddof=min(1, values.size - 1))])
    )


def log_e_mean(arm: Arm, null: float) -> Floats:
    """log of the e-value against "the mean is at most null", [T]."""
    return arm.capital(np.full(len(arm.means), null))


def log_e_difference(first: Arm, second: Arm, null: float) -> Floats:
    """log of the e-value against "mean of first minus mean of second is at most null", [T].

    Under the null the e-value exceeds 1 / alpha, ever, with chance at most alpha. Values of an arm have one mean each,
    given the past; the arms may fill at any pace.

    Raises:
        UsageError: bounded arms and a null outside (-1, 1).
    """
    low, high = _domain(first, second, null)
    other = second.mirrored()

    def product(m: Floats) -> Floats:
        return first.capital(m + null) + other.capital(1 - m)

    return _least(product, low, high, len(first.means))


def beyond(first: Arm, second: Arm, null: float, threshold: float) -> NDArray[np.bool_]:
    """Where :func:`log_e_difference` is at least the threshold, [T] of bool; cheap where it is far below.

    One pair of means with less capital settles that the least is below; only the rest is searched.
    """
    low, high = _domain(first, second, null)
    other = second.mirrored()
    # One mean for all rows, which is quickest to see.
    middle = float(np.clip((first.means - null + second.means).mean() / 2, low, high))
    guess = np.full(len(first.means), middle)
    far = first.capital(guess + null) + other.capital(1 - guess) >= threshold
    far = far & (first.means - second.means > null)
    rows = np.flatnonzero(far)
    if rows.size:
        far[rows] = log_e_difference(_rows(first, rows), _rows(second, rows), null) >= threshold
    return far


def _rows(arm: Arm, rows: NDArray[np.intp]) -> Arm:
    if isinstance(arm, Bounded):
        return Bounded(arm.levels, arm.counts[rows])
    return Gaussian(*(column[rows] for column in arm))


def _domain(first: Arm, second: Arm, null: float) -> tuple[float, float]:
    """Means of the second arm that leave both in their range."""
    (a, b), (c, d) = first.domain, second.domain
    low, high = max(c, a - null), min(d, b - null)
    if low > high:
        raise UsageError(f"null is {null}; a difference of two means in their ranges is accepted, between -1 and 1.")
    return low, high


def _least(f: Callable[[Floats], Floats], low: float, high: float, size: int) -> Floats:
    """The least value of convex functions on [low, high], [T], by golden section; of a single one by Brent's method."""
    if size == 1:
        found = minimize_scalar(
            lambda m: float(f(np.array([m]))[0]), bounds=(low, high), method="bounded", options={"xatol": 1e-9}
        )
        return np.array([min(float(found.fun), float(f(np.array([low]))[0]), float(f(np.array([high]))[0]))])

    def at(place: Floats) -> Floats:
        return f(low + (high - low) * expit(place))

    least = np.minimum(f(np.full(size, low)), f(np.full(size, high)))
    a, b = np.full(size, -WARP), np.full(size, WARP)
    x, y = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    fx, fy = at(x), at(y)
    least = np.minimum(least, np.minimum(fx, fy))
    for _ in range(STEPS):
        left = fx <= fy
        a, b = np.where(left, a, x), np.where(left, y, b)
        new = np.where(left, b - GOLDEN * (b - a), a + GOLDEN * (b - a))
        value = at(new)
        x, y = np.where(left, new, y), np.where(left, x, new)
        fx, fy = np.where(left, value, fy), np.where(left, fx, value)
        least = np.minimum(least, value)
    return np.asarray(least)


def lower_mean(arm: Arm, alpha: float) -> float:
    """The largest mean below which the first series' mean is refuted at level alpha, at all times at once."""
    return _halved(lambda null: float(log_e_mean(arm, null)[0]), *arm.domain, alpha)


def lower_difference(first: Arm, second: Arm, alpha: float) -> float:
    """The largest difference below which mean(first) - mean(second) is refuted at level alpha, at all times at once."""
    (a, b), (c, d) = first.domain, second.domain
    return _halved(lambda null: float(log_e_difference(first, second, null)[0]), a - d, b - c, alpha)


def _halved(log_e: Callable[[float], float], low: float, high: float, alpha: float) -> float:
    """The refuted end of the last half, which errs outward."""
    threshold = -math.log(alpha)
    if log_e(low + EDGE) < threshold:
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if log_e(middle) >= threshold else (low, middle)
    return low
