"""Aggregations: each formula by hand, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safetyvalve.errors import UsageError
from safetyvalve.rewards import AGGREGATIONS, aggregate, spread

MEMBERS = np.array([[1.0, 0.0], [2.0, 4.0], [6.0, 5.0]])  # means 3, 3; population variances 14/3, 14/3


@pytest.mark.parametrize(
    ("method", "k", "expected"),
    [
        ("mean", 1.0, [3.0, 3.0]),
        ("min", 1.0, [1.0, 0.0]),
        ("mean-std", 0.5, [3 - 0.5 * math.sqrt(14 / 3)] * 2),
        ("mean-variance", 0.5, [3 - 0.5 * 14 / 3] * 2),
        ("mean-std", 0.0, [3.0, 3.0]),
    ],
)
def test_by_hand(method: str, k: float, expected: list[float]) -> None:
    np.testing.assert_allclose(aggregate(MEMBERS, method, k=k), expected)
    assert method in AGGREGATIONS


def test_one_member_is_its_own_aggregate() -> None:
    for method in AGGREGATIONS:
        np.testing.assert_allclose(aggregate(MEMBERS[:1], method), MEMBERS[0])
    assert spread(MEMBERS[:1]).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(spread(MEMBERS), [math.sqrt(14 / 3)] * 2)


def test_a_member_without_a_score_leaves_the_response_unscored() -> None:
    broken = MEMBERS.copy()
    broken[1, 0] = math.nan
    for method in AGGREGATIONS:
        values = aggregate(broken, method)
        assert math.isnan(values[0])
        assert math.isfinite(values[1])


@pytest.mark.parametrize(
    ("members", "method", "k", "message"),
    [
        (MEMBERS, "median", 1.0, "aggregation is 'median'"),
        (MEMBERS, "mean-std", -1.0, "k is -1.0"),
        (MEMBERS, "mean-std", math.nan, "k is nan"),
        (MEMBERS[0], "mean", 1.0, "shape"),
        (np.empty((0, 2)), "mean", 1.0, "shape"),
        (np.full((2, 2), math.inf), "min", 1.0, "infinite"),
    ],
)
def test_refused(members: np.ndarray, method: str, k: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        aggregate(members, method, k=k)
