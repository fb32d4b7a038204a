"""Student's interval, by hand and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safetyvalve.errors import UsageError
from safetyvalve.stats import mean_interval, proportion_interval


def test_by_hand() -> None:
    """Mean 3, standard deviation sqrt(2.5), t quantile 2.776445 at 4 degrees of freedom."""
    interval = mean_interval([1, 2, 3, 4, 5])
    reach = 2.7764451 * math.sqrt(2.5 / 5)
    assert interval.estimate == 3
    assert interval.low == pytest.approx(3 - reach)
    assert interval.high == pytest.approx(3 + reach)
    assert interval.n == 5


def test_coverage() -> None:
    """95% intervals of 12 normal values hold the mean in 95% of 4,000 cases, within 4 standard errors."""
    draw = np.random.default_rng(0)
    held = [i.low < 1 < i.high for i in (mean_interval(draw.normal(1, 2, 12).tolist()) for _ in range(4000))]
    assert abs(np.mean(held) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_value_teaches_nothing_about_spread() -> None:
    assert mean_interval([2.0])[:3] == (2.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("values", "confidence", "fragment"),
    [
        ([], 0.95, "at least one number"),
        ([1, math.inf], 0.95, "value 1 is not finite"),
        ([1, 2], 1.0, "confidence is 1.0"),
    ],
)
def test_refusals(values: list[float], confidence: float, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        mean_interval(values, confidence=confidence)


def test_exact_interval_of_a_share_by_hand() -> None:
    """No success in n trials: the upper end is 1 - (a/2)^(1/n); its mirror for all; 5 of 10 from the tables."""
    none, every = proportion_interval(0, 20), proportion_interval(20, 20)
    assert (none.low, every.high) == (0, 1)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert every.low == pytest.approx(0.025 ** (1 / 20))
    half = proportion_interval(5, 10)
    assert (half.low, half.high) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_shares_that_are_none(count: int, n: int) -> None:
    with pytest.raises(UsageError, match="trials"):
        proportion_interval(count, n)
