"""The token-budget packer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyvalve.data import load_preferences, tokenize_examples
from safetyvalve.errors import UsageError
from safetyvalve.models import load_tokenizer
from safetyvalve.trees import pack_by_budget

HH = Path(__file__).parents[3] / "shared" / "data" / "hh-harmless-test.jsonl.gz"


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


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), max_size=60))
def test_equal_input_gives_equal_groups(sizes: list[int]) -> None:
    """Nothing is drawn: the seed of a run decides the order of examples, and that alone the groups."""
    assert pack_by_budget(sizes, 100) == pack_by_budget(list(sizes), 100)


@pytest.mark.slow
@pytest.mark.skipif(not HH.exists(), reason="the real preference data is not here")
@pytest.mark.parametrize("budget", [1024, 2048, 4096])
def test_slack_on_real_comparisons(budget: int) -> None:
    """Room that is left in the micro-batches of a pass over hh-harmless: at most 5%."""
    examples = load_preferences(HH).examples
    sizes = [t.n_tokens for t in tokenize_examples(examples, load_tokenizer("smollm2-135m"))[0]]
    groups = pack_by_budget(sizes, budget)
    room = sum(max(budget, sum(sizes[i] for i in g)) for g in groups)
    assert 1 - sum(sizes) / room < 0.05
    assert groups == pack_by_budget(sizes, budget)


def test_an_item_past_the_budget_stands_alone() -> None:
    assert pack_by_budget([30, 2], 10) == [[0], [1]]


def test_budget_of_zero() -> None:
    with pytest.raises(UsageError, match="token budget is 0"):
        pack_by_budget([1], 0)
