"""E-values and confidence sequences: another library's martingales, exact values, and error at all times at once."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyvalve.errors import UsageError
from safetyvalve.stats import anytime_interval, confidence_sequence, log_e_value, sequential
from tests.stats.simulated import clopper_pearson

X = [1, 0, 0.5, 1, 1, 0, 1, 1, 0.5, 1, 0, 1, 1, 1]

# confseq 0.0.11, betting_mart(X, m, constant bets c/m and c/(1-m), trunc_scale=1), theta 1 and 0 (it needs numpy < 2).
CONFSEQ = [
    (0.5, 0.1, 1.7189438667390011, 0.5156566708590004),
    (0.5, 0.5, 4.805419921875, 0.006591796875),
    (0.3, 0.5, 233.83870839348856, 0.0025692071198012718),
    (0.7, 0.8, 0.06760047520577721, 2.8357941644115153e-05),
]


@pytest.mark.parametrize(("m", "bet", "up", "down"), CONFSEQ)
def test_capital_against_confseq(monkeypatch: pytest.MonkeyPatch, m: float, bet: float, up: float, down: float) -> None:
    monkeypatch.setattr(sequential, "BETS", np.array([bet]))
    assert log_e_value(X, null=m, side="above") == pytest.approx(math.log(up))
    assert log_e_value(X, null=m, side="below") == pytest.approx(math.log(down))
    assert log_e_value(X, null=m) == pytest.approx(math.log((up + down) / 2))


def test_e_value_by_hand() -> None:
    """Two wins: each bet c turns 1 into (1 + c)^2, averaged over the bets and over both sides."""
    bets = sequential.BETS
    expected = np.mean(((1 + bets) ** 2 + (1 - bets) ** 2) / 2)
    assert log_e_value([1, 1]) == pytest.approx(math.log(expected))


def test_mean_of_e_is_one_under_the_null() -> None:
    """Exactly, summed over all sequences of five verdicts with ties."""
    total = 0.0
    for code in range(3**5):
        x = [(code // 3**k) % 3 / 2 for k in range(5)]
        total += math.exp(log_e_value(x)) * math.prod({0: 0.3, 0.5: 0.4, 1: 0.3}[v] for v in x)
    assert total == pytest.approx(1)


def test_bounds_are_where_the_capital_meets_the_threshold() -> None:
    found = anytime_interval(X)
    for m, side in ((found.low, "above"), (found.high, "below")):
        assert log_e_value(X, null=m, side=side) == pytest.approx(math.log(40), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0, 0.25, 0.5, 1]), min_size=1, max_size=30), st.randoms())
def test_order_sides_and_running_intersection(x: list[float], random: object) -> None:
    found = anytime_interval(x)
    shuffled = x[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert anytime_interval(shuffled) == pytest.approx(found, abs=1e-9)
    mirrored = anytime_interval([1 - v for v in x])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)
    assert found.low <= found.estimate <= found.high
    path = confidence_sequence(x)
    assert [p.n for p in path] == list(range(1, len(x) + 1))
    assert all(a.low <= b.low and a.high >= b.high for a, b in pairwise(path))
    assert path[-1].low == pytest.approx(max(anytime_interval(x[:t]).low for t in range(1, len(x) + 1)), abs=1e-9)


@pytest.mark.parametrize("chances", [(0.5, 0, 0.5), (0.35, 0.3, 0.35), (0.1, 0.1, 0.8)], ids=["coin", "ties", "strong"])
def test_error_at_all_times_at_once(chances: tuple[float, float, float]) -> None:
    """Looked at after each of 600 prompts, the sequence ever misses the mean in at most 5% of 1,000 runs; a fixed
    interval looked at that often misses it far more often. The mean is outside when either capital at it has reached
    the threshold (the test above), which is quicker to see than the interval."""
    draw = np.random.default_rng(5)
    levels, mean = np.array([0, 0.5, 1]), chances[1] / 2 + chances[2]
    runs, steps = 1000, 600
    misses = fixed = 0
    t = np.arange(1, steps + 1)
    for _ in range(runs):
        x = draw.choice(levels, p=chances, size=steps)
        counts = np.cumsum(x[:, None] == levels, axis=0).astype(float)
        capitals = sequential.log_capitals(levels, counts, np.full(steps, mean))
        misses += bool((np.maximum(*capitals) >= math.log(40)).any())
        means = np.cumsum(x) / t
        errors = np.sqrt(np.maximum(np.cumsum(x**2) / t - means**2, 1e-9) / t)
        fixed += bool((np.abs(means - mean) > 1.96 * errors)[20:].any())
    assert clopper_pearson(misses, runs)[0] < 0.05
    assert clopper_pearson(misses, runs)[1] < 0.08
    assert clopper_pearson(fixed, runs)[0] > 0.15


def test_finds_a_difference() -> None:
    """A win rate of 0.6 leaves one half within 1,000 verdicts in nearly all runs, 0.9 within 40."""
    draw = np.random.default_rng(6)
    for chance, n in ((0.6, 1000), (0.9, 40)):
        found = [anytime_interval((draw.random(n) < chance).astype(float)).low > 0.5 for _ in range(40)]
        assert np.mean(found) > 0.9


def test_width_against_confseq() -> None:
    """confseq.betting_cs (predictable bets) on this sequence is 0.265, 0.203, 0.155 wide at 100, 200, 400."""
    x = np.random.default_rng(0).choice([1, 0.5, 0], p=[0.5, 0.2, 0.3], size=400)
    widths = [s.high - s.low for s in confidence_sequence(x, at=[100, 200, 400])]
    assert widths == pytest.approx([0.265, 0.203, 0.155], rel=0.25)


def test_refusals() -> None:
    with pytest.raises(UsageError, match=r"values\[0\] is 2"):
        anytime_interval([2])
    with pytest.raises(UsageError, match="null is 1"):
        log_e_value([1], null=1)
    with pytest.raises(UsageError, match="side is 'up'"):
        log_e_value([1], side="up")
    with pytest.raises(UsageError, match="rising sizes from 1 to 2"):
        confidence_sequence([1, 0], at=[3])
