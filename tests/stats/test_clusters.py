"""Clustered means: by hand, against statsmodels, by coverage, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from safetyvalve.errors import UsageError
from safetyvalve.stats import clustered_mean, mean_interval, win_rate
from tests.stats.simulated import clopper_pearson


def test_by_hand() -> None:
    """Residuals of 1, 1 | 0 | 0, 1, 0 from the mean 1/2 sum to 1, -1/2, -1/2 in three clusters: V = 3/2 * 3/2 / 36."""
    interval = clustered_mean([1, 1, 0, 0, 1, 0], ["p", "p", "q", "r", "r", "r"])
    error = math.sqrt(1.5 * 1.5 / 36)
    assert interval.estimate == 0.5
    assert interval.standard_error == pytest.approx(error)
    assert interval.high == pytest.approx(0.5 + 4.30265273 * error)
    assert interval.n == 3


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_clusters_of_one_are_students_interval(values: list[float]) -> None:
    assert clustered_mean(values, range(len(values))) == pytest.approx(mean_interval(values), abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=6, max_size=40), st.randoms())
def test_order_and_names_do_not_matter(rows: list[tuple[float, int]], random: object) -> None:
    shuffled = rows[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = clustered_mean([v for v, _ in rows], [c for _, c in rows])
    two = clustered_mean([v for v, _ in shuffled], [f"cluster {c}" for _, c in shuffled])
    assert two == pytest.approx(one, abs=1e-9)


def test_against_statsmodels() -> None:
    """One-way, and two-way where the difference of the covariances is above both."""
    ols = pytest.importorskip("statsmodels.api").OLS
    draw = np.random.default_rng(3)
    p, r = np.repeat(np.arange(40), 6), np.tile(np.arange(6), 40)
    y = draw.normal(size=240) + draw.normal(size=40)[p] + draw.normal(size=6)[r]
    one = ols(y, np.ones(240)).fit(cov_type="cluster", cov_kwds={"groups": p, "use_correction": False})
    interval = clustered_mean(y, p.tolist())
    assert interval.standard_error**2 == pytest.approx(one.bse[0] ** 2 * 40 / 39)
    both = p * 6 + r
    parts = [
        ols(y, np.ones(240)).fit(cov_type="cluster", cov_kwds={"groups": g, "use_correction": False}).bse[0] ** 2
        for g in (p, r, both)
    ]
    expected = parts[0] * 40 / 39 + parts[1] * 6 / 5 - parts[2] * 240 / 239
    assert expected > max(parts[0] * 40 / 39, parts[1] * 6 / 5)
    crossed = clustered_mean(y, p.tolist(), crossed=r.tolist())
    assert crossed.standard_error**2 == pytest.approx(expected)
    assert crossed.high - crossed.estimate == pytest.approx(stats.t.ppf(0.975, 5) * crossed.standard_error)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.integers(0, 3)), min_size=8, max_size=30))
def test_a_second_clustering_never_narrows(rows: list[tuple[float, int, int]]) -> None:
    values, p, r = (list(c) for c in zip(*rows, strict=True))
    one, two = clustered_mean(values, p), clustered_mean(values, p, crossed=r)
    assert two.standard_error >= one.standard_error - 1e-12


def test_coverage_where_a_plain_interval_fails() -> None:
    """25 prompts with 4 alike verdicts each: the clustered interval covers 95%, one that ignores prompts does not."""
    draw = np.random.default_rng(0)
    held = plain = 0
    n = 2000
    for _ in range(n):
        y = np.repeat(draw.normal(size=25), 4) + 0.5 * draw.normal(size=100)
        interval, naive = clustered_mean(y, np.repeat(np.arange(25), 4).tolist()), mean_interval(y.tolist())
        held += interval.low < 0 < interval.high
        plain += naive.low < 0 < naive.high
    low, high = clopper_pearson(held, n)
    assert low < 0.95 < high
    assert clopper_pearson(plain, n)[1] < 0.8


def test_one_cluster_teaches_nothing() -> None:
    assert clustered_mean([1, 0], ["p", "p"])[1:3] == (-math.inf, math.inf)
    assert win_rate([1, 0, 1], ["p", "q", "r"], annotators=["x"] * 3).interval[1:3] == (0, 1)


def test_win_rate_counts_ties_as_half_and_stays_within_bounds() -> None:
    found = win_rate([1, 1, 1, 1, 0.5], list("pqrst"))
    assert found.interval.estimate == 0.9
    assert (found.ties, found.interval.high, found.exact, found.shows) == (0.2, 1.0, False, "better")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_no_spread_has_an_exact_bound(value: float) -> None:
    """Ten prompts all equal: had such prompts a chance q = 0.05^(1/10), ten in a row would have had 5%."""
    found = win_rate([value] * 20, np.repeat(np.arange(10), 2).tolist())
    q = 0.05**0.1
    assert found.exact
    assert found.interval[:3] == pytest.approx((value, value * q, value * q + 1 - q))


@pytest.mark.parametrize("chance", [0.5, 0.8, 0.95, 0.99])
def test_win_rate_coverage(chance: float) -> None:
    """60 prompts, win or tie or loss; near 1 the normal theory is rough and the exact bound steps in."""
    draw = np.random.default_rng(1)
    p = [1 - chance, 0, chance] if chance > 0.9 else [0.9 - chance, 0.2, chance - 0.1]
    mean = p[1] / 2 + p[2]
    n = 1500
    held = 0
    for _ in range(n):
        low, high = win_rate(draw.choice([0, 0.5, 1], p=p, size=60), range(60)).interval[1:3]
        held += low <= mean <= high
    assert clopper_pearson(held, n)[1] > (0.94 if chance < 0.9 else 0.9)


@pytest.mark.parametrize(
    ("scores", "prompts", "fragment"),
    [
        ([], [], "at least one number"),
        ([1, math.nan], ["p", "q"], r"scores\[1\] is nan; numbers from 0 to 1"),
        ([1, 2], ["p", "q"], r"scores\[1\] is 2"),
        ([1, 0], ["p"], "1 labels for 2 values"),
        ([1, 0], ["p", None], r"clusters\[1\] is None"),
        ([1, 0], ["p", math.nan], r"clusters\[1\] is nan"),
    ],
)
def test_refusals(scores: list[float], prompts: list[object], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        win_rate(scores, prompts)  # type: ignore[arg-type]


def test_confidence_is_checked() -> None:
    with pytest.raises(UsageError, match="confidence is 95"):
        win_rate([1, 0], ["p", "q"], confidence=95)
