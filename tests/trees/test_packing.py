"""The token-budget packer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyvalve.errors import UsageError
from safetyvalve.trees import pack_by_budget


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 500))
def test_every_item_once_and_within_budget(sizes: list[int], budget: int) -> None:
    groups = pack_by_budget(sizes, budget)
    assert sorted(i for g in groups for i in g) == list(range(len(sizes)))
    for group in groups:
        assert len(group) == 1 or sum(sizes[i] for i in group) <= budget


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=60))
def test_no_two_groups_could_be_one(sizes: list[int]) -> None:
    totals = sorted(sum(sizes[i] for i in g) for g in pack_by_budget(sizes, 100))
    assert len(totals) < 2 or totals[0] + totals[1] > 100


def test_by_hand() -> None:
    assert pack_by_budget([5, 9, 4, 1], 10) == [[1, 3], [0, 2]]


def test_an_item_past_the_budget_stands_alone() -> None:
    assert pack_by_budget([30, 2], 10) == [[0], [1]]


def test_budget_of_zero() -> None:
    with pytest.raises(UsageError, match="token budget is 0"):
        pack_by_budget([1], 0)
