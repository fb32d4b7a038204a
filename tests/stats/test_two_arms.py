"""Differences of two arms at any time: convexity, hand-worked values, exact expectation, error at all times at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats import two_arms
from safetyvalve.stats.corrected import corrected_interval, log_e_corrected
from safetyvalve.stats.prediction_powered import ppi_mean
from safetyvalve.stats.two_arms import (
    Bounded,
    Gaussian,
    beyond,
    bounded,
    gaussian,
    log_e_difference,
    log_e_mean,
    lower_difference,
    lower_mean,
)
from tests.stats.simulated import clopper_pearson

BITS = np.array([0.0, 1.0])


def _coins(draw: np.random.Generator, chance: float, shape: tuple[int, int], steps: np.ndarray) -> np.ndarray:
    """[runs, looks, 2] counts of 0 and 1 at the looks."""
    ones = np.cumsum(draw.random(shape) < chance, axis=1)[:, steps - 1].astype(float)
    return np.stack([steps - ones, ones], axis=-1)


def test_product_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bet c on one win and one loss: the least of (1 - c + c / (m + d)) (1 - c + c / (1 - m)) by a fine grid."""
    monkeypatch.setattr(two_arms, "BETS", np.array([0.5]))
    first, second = bounded(np.array([1.0]), upward=False), bounded(np.array([0.0]), upward=True)
    for null in (-0.3, 0.0, 0.4):
        m = np.linspace(max(0, -null) + 1e-6, min(1, 1 - null) - 1e-6, 200_001)
        product = (0.5 + 0.5 / (m + null)) * (0.5 + 0.5 / (1 - m))
        assert log_e_difference(first, second, null)[0] == pytest.approx(math.log(product.min()), abs=1e-6)


def test_golden_section_and_brent_agree_and_capital_is_convex() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.beta(2, 5, 60), draw.beta(2, 4, 90)
    arms = bounded(x, upward=False), bounded(y, upward=True)
    twice = [Bounded(a.levels, np.repeat(a.counts, 2, axis=0)) for a in arms]
    assert log_e_difference(*arms, -0.2)[0] == pytest.approx(log_e_difference(twice[0], twice[1], -0.2)[1], abs=1e-6)
    m = np.linspace(0.01, 0.99, 99)
    for arm in (*arms, gaussian(x)):
        capital = np.array([float(arm.capital(np.array([v]))[0]) for v in m])
        assert (np.diff(capital, 2) > -1e-9).all()
        assert (np.diff(capital) <= 1e-9).all()


def test_mean_of_e_is_at_most_one_under_the_null() -> None:
    """Exactly, summed over all sequences of three and four values; at the null and below it."""
    for p, q in ((0.3, 0.3), (0.2, 0.3), (0.9, 0.9)):
        total = 0.0
        for xs in itertools.product((0.0, 1.0), repeat=3):
            for ys in itertools.product((0.0, 1.0), repeat=4):
                chance = math.prod(p if v else 1 - p for v in xs) * math.prod(q if v else 1 - q for v in ys)
                e = log_e_difference(bounded(np.array(xs), upward=False), bounded(np.array(ys), upward=True), 0.0)
                total += chance * math.exp(e[0])
        assert total <= 1 + 1e-9


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.02), (0.5, 0.5), (0.06, 0.05)])
def test_error_at_all_times_at_once(p: float, q: float) -> None:
    """Looked at 40 times, a tenth of the traffic in the first arm: "more than p - q" is ever said in at most 5% of
    runs, while a z test at each look says it far more often."""
    draw = np.random.default_rng(1)
    runs, steps = 1000, np.arange(1, 41) * 25
    first, second = _coins(draw, p, (runs, 1000), steps), _coins(draw, q, (runs, 9000), 9 * steps)
    ever, naive = np.zeros(runs, bool), np.zeros(runs, bool)
    for k in range(len(steps)):
        a, b = Bounded(BITS, first[:, k]), Bounded(BITS, second[:, k])
        ever |= beyond(a, b, p - q, math.log(20))
        spread = np.sqrt(a.means * (1 - a.means) / steps[k] + b.means * (1 - b.means) / (9 * steps[k])) + 1e-12
        naive |= (a.means - b.means - (p - q)) / spread > 1.645
    assert clopper_pearson(int(ever.sum()), runs)[1] < 0.07
    assert naive.mean() > 0.1


def test_gaussian_error_on_skewed_values() -> None:
    """Lognormal waiting times, asymptotic statement from 100 values an arm on."""
    draw = np.random.default_rng(2)
    runs, looks = 1000, np.arange(100, 2001, 100)
    x, y = (draw.lognormal(0, 0.7, (runs, 2000)) for _ in range(2))
    ever = np.zeros(runs, bool)
    for n in looks:
        arms = [Gaussian(np.full(runs, float(n)), v[:, :n].mean(1), v[:, :n].std(1, ddof=1)) for v in (x, y)]
        ever |= beyond(arms[0], arms[1], 0.0, math.log(20))
    assert clopper_pearson(int(ever.sum()), runs)[1] < 0.07


def test_bounds_hold_and_are_where_the_e_value_meets_its_threshold() -> None:
    draw = np.random.default_rng(3)
    x, y = (draw.random(400) < 0.3).astype(float), (draw.random(900) < 0.2).astype(float)
    low = lower_difference(bounded(x, upward=False), bounded(y, upward=True), 0.05)
    high = -lower_difference(bounded(y, upward=False), bounded(x, upward=True), 0.05)
    assert low < x.mean() - y.mean() < high
    assert log_e_difference(bounded(x, upward=False), bounded(y, upward=True), low)[0] == pytest.approx(
        math.log(20), abs=0.01
    )
    fixed = 2 * 1.645 * math.sqrt(x.var() / x.size + y.var() / y.size)
    assert fixed < high - low < 2.6 * fixed


def test_narrower_than_two_separate_intervals() -> None:
    draw = np.random.default_rng(4)
    x, y = draw.beta(2, 5, 800), draw.beta(2, 5, 800)
    together = lower_difference(bounded(x, upward=False), bounded(y, upward=True), 0.05)
    apart = lower_mean(bounded(x, upward=False), 0.025) - (1 - lower_mean(bounded(1 - y, upward=False), 0.025))
    assert x.mean() - y.mean() - together < 0.85 * (x.mean() - y.mean() - apart)


def test_many_distinct_values_are_rounded_against_the_statement() -> None:
    values = np.random.default_rng(5).random(5000)
    down, up = bounded(values, upward=False), bounded(values, upward=True)
    assert down.levels.size <= two_arms.LEVELS + 1
    assert down.means[0] <= values.mean() <= up.means[0]
    assert up.means[0] - down.means[0] <= 1.01 / two_arms.LEVELS
    assert down.counts.sum() == 5000


def test_one_mean() -> None:
    x = bounded((np.random.default_rng(6).random(900) < 0.6).astype(float), upward=False)
    low = lower_mean(x, 0.05)
    assert 0.5 < low < x.means[0]
    assert log_e_mean(x, low)[0] == pytest.approx(math.log(20), abs=0.01)


def _population(draw: np.random.Generator, n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """People with a mean of 0.5 and a judge that mostly agrees and is biased by 0.1."""
    y = (draw.random(n + m) < 0.5).astype(float)
    f = np.where(draw.random(n + m) < 0.85, y, (draw.random(n + m) < 0.85).astype(float))
    return y[:n], f[:n], f[n:]


def test_a_judge_helps_and_its_bias_does_not_pass() -> None:
    draw = np.random.default_rng(7)
    y, same, other = _population(draw, 400, 4000)
    alone, helped = corrected_interval(y), corrected_interval(y, same, other, weight=0.7)
    fixed = ppi_mean(y, same, other)
    assert helped.high - helped.low < 0.9 * (alone.high - alone.low)
    assert abs(helped.estimate - fixed.interval.estimate) < 0.02
    assert helped.low < 0.5 < helped.high
    assert np.concatenate([same, other]).mean() > 0.53
    low = log_e_corrected(y, same, other, null=helped.low, side="above", weight=0.7)
    high = log_e_corrected(y, same, other, null=helped.high, side="below", weight=0.7)
    assert (low, high) == pytest.approx((math.log(20), math.log(20)), abs=0.02)


def test_corrected_error_at_all_times_at_once() -> None:
    """200 runs, a look after every 40 verdicts of people: people's mean is ever above its null in at most 5%."""
    draw = np.random.default_rng(8)
    misses = 0
    for _ in range(200):
        y, same, other = _population(draw, 200, 1000)
        misses += any(
            log_e_corrected(y[:k], same[:k], other[: 5 * k], null=0.5, side="above") >= math.log(20)
            for k in range(40, 201, 40)
        )
    assert clopper_pearson(misses, 200)[0] < 0.05
    assert misses <= 16


def test_refusals() -> None:
    with pytest.raises(DataError, match="no verdicts of people"):
        corrected_interval([], [], [0.5, 0.7])
    with pytest.raises(UsageError, match="weight is 2"):
        corrected_interval([1.0], weight=2)
    with pytest.raises(UsageError, match="side is 'up'"):
        log_e_corrected([1.0], null=0.5, side="up")
    arm = bounded(BITS, upward=False)
    with pytest.raises(UsageError, match=r"null is 1\.5"):
        log_e_difference(arm, arm, 1.5)
