"""Kappa and alpha: textbook numbers, brute force, another library, properties, and ratings that say nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats import cohen_kappa, krippendorff_alpha, majority
from safetyvalve.stats.agreement import Level
from tests.stats.simulated import clopper_pearson

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C: 4 observers, 12 units, blanks as 0.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def long(observers: list[list[int | None]]) -> tuple[list[int], list[int]]:
    rows = [(u, v) for o in observers for u, v in enumerate(o) if v is not None]
    return [u for u, _ in rows], [v for _, v in rows]


def brute(units: list[int], values: list[int], level: Level, order: list[int]) -> float:
    """Alpha from its definition: every ordered pair within a unit against every ordered pair of all pairable values."""
    groups: dict[int, list[int]] = {}
    for u, v in zip(units, values, strict=True):
        groups.setdefault(u, []).append(v)
    groups = {u: g for u, g in groups.items() if len(g) > 1}
    pool = [v for g in groups.values() for v in g]

    def distance(a: int, b: int) -> float:
        if level == "nominal":
            return float(a != b)
        low, high = sorted((order.index(a), order.index(b)))
        between = sum(pool.count(order[k]) for k in range(low, high + 1))
        return float((between - (pool.count(a) + pool.count(b)) / 2) ** 2)

    observed = sum(
        distance(a, b) / (len(g) - 1) for g in groups.values() for a, b in itertools.permutations(g, 2)
    ) / len(pool)
    expected = sum(distance(a, b) for a, b in itertools.permutations(pool, 2)) / (len(pool) * (len(pool) - 1))
    return 1 - observed / expected


def test_alpha_of_krippendorffs_example() -> None:
    units, values = long(OBSERVERS)
    assert krippendorff_alpha(units, values).interval.estimate == pytest.approx(0.743, abs=5e-4)
    ordinal = krippendorff_alpha(units, values, level="ordinal", order=[1, 2, 3, 4, 5])
    assert ordinal.interval.estimate == pytest.approx(0.815, abs=5e-4)
    assert ordinal.units == 11


ratings = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=4, max_size=24)


@settings(max_examples=80, deadline=None)
@given(ratings, st.sampled_from(["nominal", "ordinal"]))
def test_alpha_against_its_definition(rows: list[tuple[int, int]], level: Level) -> None:
    units, values = [u for u, _ in rows], [v for _, v in rows]
    pairable = {v for u, v in rows if units.count(u) > 1}
    assume(len(pairable) > 1)
    found = krippendorff_alpha(units, values, level=level, order=[0, 1, 2], replicates=100)
    assert found.interval.estimate == pytest.approx(brute(units, values, level, [0, 1, 2]), abs=1e-9)


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_alpha_against_evalica(level: Level) -> None:
    evalica, pandas = pytest.importorskip("evalica"), pytest.importorskip("pandas")
    draw = np.random.default_rng(2)
    table = draw.integers(0, 3, size=(4, 60)).astype(float)
    table[:, :30] = table[0, :30]
    table[draw.random(table.shape) < 0.2] = np.nan
    peer = evalica.alpha(pandas.DataFrame(table), distance=level).alpha
    units, values = long([[None if np.isnan(v) else int(v) for v in row] for row in table])
    found = krippendorff_alpha(units, values, level=level, order=[0, 1, 2])
    assert found.interval.estimate == pytest.approx(peer, abs=1e-9)


def test_kappa_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5, kappa 0.4."""
    rows = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = cohen_kappa([a for a, _ in rows], [b for _, b in rows])
    assert found.interval.estimate == pytest.approx(0.4)
    assert found.raw == 0.7
    # The large-sample error of Fleiss, Cohen and Everitt (1969) for this table.
    assert found.interval.standard_error == pytest.approx(0.1271, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=40)
def test_kappa_is_symmetric_and_one_only_when_equal(rows: list[tuple[int, int]]) -> None:
    a, b = [x for x, _ in rows], [y for _, y in rows]
    assume(len({*a, *b}) > 1)
    one, two = cohen_kappa(a, b, replicates=100), cohen_kappa(b, a, replicates=100)
    assert one.interval.estimate == pytest.approx(two.interval.estimate)
    assert (one.interval.estimate == pytest.approx(1)) == (a == b)


@pytest.mark.slow
def test_coverage_with_clusters() -> None:
    """Prompts with five like items each: resampling prompts covers, resampling items does not."""
    draw = np.random.default_rng(4)

    def sample(prompts: int) -> tuple[list[int], list[int], list[int]]:
        hard = draw.random(prompts) < 0.5
        first = draw.integers(0, 2, size=(prompts, 5))
        second = np.where((draw.random((prompts, 5)) < 0.5) & hard[:, None], 1 - first, first)
        return first.ravel().tolist(), second.ravel().tolist(), np.repeat(np.arange(prompts), 5).tolist()

    big = sample(100_000)
    truth = float(2 * np.mean(np.array(big[0]) == np.array(big[1])) - 1)
    n, held, naive = 400, 0, 0
    for _ in range(n):
        first, second, prompts = sample(60)
        low, high = cohen_kappa(first, second, clusters=prompts, replicates=300).interval[1:3]
        held += low < truth < high
        low, high = cohen_kappa(first, second, replicates=300).interval[1:3]
        naive += low < truth < high
    assert clopper_pearson(held, n)[1] > 0.94
    assert naive < held


def test_majority() -> None:
    assert majority(["a", "a", "b"]) == "a"
    assert majority(["a", "b", "tie"]) == "tie"
    assert majority(["a", "a", "b", "b"]) == "tie"


def test_refusals() -> None:
    with pytest.raises(DataError, match="all ratings are 'a'; kappa is undefined"):
        cohen_kappa(["a", "a"], ["a", "a"])
    with pytest.raises(DataError, match="all ratings are 'a'; alpha is undefined"):
        krippendorff_alpha([1, 1, 2], ["a", "a", "b"])
    with pytest.raises(DataError, match="no unit has two ratings"):
        krippendorff_alpha([1, 2], ["a", "b"])
    with pytest.raises(UsageError, match="needs order"):
        krippendorff_alpha([1, 1], ["a", "b"], level="ordinal")
    with pytest.raises(UsageError, match="'c' is not in order"):
        krippendorff_alpha([1, 1], ["a", "c"], order=["a", "b"])
    with pytest.raises(UsageError, match="2 and 1 ratings"):
        cohen_kappa(["a", "b"], ["a"])
    with pytest.raises(UsageError, match="two clusters"):
        krippendorff_alpha([1, 1], ["a", "b"], clusters=["p", "q"])


def test_one_cluster_says_nothing_about_spread() -> None:
    assert cohen_kappa(["a", "b"], ["a", "b"], clusters=["p", "p"]).interval[1:3] == (-1, 1)
