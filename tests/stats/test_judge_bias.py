"""Biases of a judge: built in and found, absent and not found, by hand; and what verdicts and scores mean."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats import (
    accuracy,
    calibration_map,
    family_bias,
    length_bias,
    meaning_of_verdicts,
    position_bias,
)


def test_position_by_hand() -> None:
    """The first answer wins 3 of 4."""
    found = position_bias([1, 0, 1, 0], [True, False, True, True], list("pqrs"))
    assert found.estimate == pytest.approx(0.25)
    assert position_bias([1, 0], [True, True], ["p", "q"]).estimate == 0


def test_length_by_hand() -> None:
    """Longer: judge a, a, b where people said tie, a, a; equal length is left out. Differences 1/2, 0, 1."""
    found = length_bias([1, 1, 0, 1], [0.5, 1, 1, 0], [9, 9, 1, 5], [1, 1, 9, 5], list("pqrs"))
    assert found.estimate == pytest.approx(0.5)
    assert found.n == 3


def test_family_by_hand() -> None:
    """Own model a: +1; own model b: judge says b, people tie: +1/2; both own: left out."""
    found = family_bias([1, 0, 1], [0, 0.5, 0], [True, False, True], [False, True, True], list("pqr"))
    assert found.estimate == pytest.approx(0.75)


@pytest.mark.parametrize("built_in", [0.0, 0.3])
def test_finds_what_is_built_in_and_nothing_else(built_in: float) -> None:
    """A judge that gives its verdict to the longer answer in some cases: found; without it the interval holds zero."""
    draw = np.random.default_rng(11)
    n = 3000
    human = (draw.random(n) < 0.5).astype(float)
    a, b = draw.integers(1, 100, n), draw.integers(1, 100, n)
    judge = np.where(draw.random(n) < 0.2, 1 - human, human)
    judge = np.where((draw.random(n) < built_in) & (a != b), (a > b).astype(float), judge)
    found = length_bias(judge, human, a, b, range(n))
    # It replaces a share of verdicts of which half already went to the longer answer.
    assert found.low < built_in / 2 < found.high
    assert (found.low > 0) == (built_in > 0)
    sides = draw.random(n) < 0.5
    position = position_bias(judge, sides.tolist(), range(n))
    assert position.low < 0 < position.high


def test_accuracy_counts_missing_as_told() -> None:
    judge, human = ["a", None, "b", None], ["a", "tie", "a", "b"]
    rates = {m: accuracy(judge, human, range(4), missing=m).estimate for m in ("drop", "wrong", "tie")}
    assert rates == {"drop": 0.5, "wrong": 0.25, "tie": 0.5}


def test_meaning() -> None:
    found = {m.judge: m for m in meaning_of_verdicts(["a", "a", "tie"], [1, 0.5, 0.5], list("pqr"))}
    assert (found["a"].human.estimate, found["a"].items, found["a"].human.high) == (0.75, 2, 1)
    assert found["tie"].human[:3] == (0.5, 0, 1)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 0.5, 1])), min_size=2, max_size=7))
def test_calibration_map_is_the_best_rising_one(rows: list[tuple[int, float]]) -> None:
    """Against all rising maps with values on a grid: none has smaller squared error."""
    s, h = [float(a) for a, _ in rows], [b for _, b in rows]
    if len(set(s)) == 1:
        with pytest.raises(DataError, match="all scores are"):
            calibration_map(s, h)
        return
    found = calibration_map(s, h)
    assert (np.diff(found.preference) >= -1e-12).all()
    error = ((found(s) - h) ** 2).sum()
    grid = np.linspace(0, 1, 5)
    for values in itertools.combinations_with_replacement(grid, len(found.scores)):
        assert error <= ((np.interp(s, found.scores, values) - h) ** 2).sum() + 1e-9


def test_refusals() -> None:
    with pytest.raises(DataError, match="different length"):
        length_bias([1], [1], [5], [5], ["p"])
    with pytest.raises(DataError, match="own family"):
        family_bias([1], [1], [True], [True], ["p"])
    with pytest.raises(DataError, match="no verdict on any item"):
        accuracy([None], ["a"], ["p"])
    with pytest.raises(UsageError, match="missing is 'ignore'"):
        accuracy(["a"], ["a"], ["p"], missing="ignore")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a_first has 1 entries; 2"):
        position_bias([1, 0], [True], ["p", "q"])
