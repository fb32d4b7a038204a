"""No conversation stands on both sides of a split."""

from __future__ import annotations

import pytest

from safetyvalve.data import (
    Comparison,
    Message,
    PreferenceExample,
    Response,
    choose_examples,
    opening_turn,
    split_by_opening,
)
from safetyvalve.errors import DataError, UsageError


def example(opening: str, answer: str = "yes") -> PreferenceExample:
    return PreferenceExample(
        prompt=(Message(role="system", content="s"), Message(role="user", content=opening)),
        responses=(Response(content=answer), Response(content="no")),
        comparisons=(Comparison(winner=0, loser=1),),
    )


DATA = [example(f"question {i // 3}", f"answer {i}") for i in range(90)]


def test_groups_stay_whole_and_nothing_is_lost() -> None:
    split = split_by_opening(DATA, held_out=0.2, seed=3)
    assert {opening_turn(e) for e in split.train}.isdisjoint({opening_turn(e) for e in split.held_out})
    assert sorted(e.id for e in split.train + split.held_out) == sorted(e.id for e in DATA)
    assert 18 <= len(split.held_out) <= 20


def test_spaces_and_case_do_not_make_another_conversation() -> None:
    assert opening_turn(example("Hello  there")) == opening_turn(example("hello there "))


def test_independent_of_order_and_dependent_on_seed() -> None:
    sides = [
        {e.id for e in split_by_opening(d, held_out=15, seed=s).held_out}
        for d, s in ((DATA, 0), (DATA[::-1], 0), (DATA, 1))
    ]
    assert sides[0] == sides[1]
    assert sides[0] != sides[2]


@pytest.mark.parametrize("held_out", [0, -3, 0.0, 1.0, 1.5, True])
def test_bad_size(held_out: float) -> None:
    with pytest.raises(UsageError, match="held-out size is"):
        split_by_opening(DATA, held_out=held_out)


def test_nothing_left() -> None:
    with pytest.raises(DataError, match="leave none to train on"):
        split_by_opening([example("same", str(i)) for i in range(5)], held_out=0.1)


def test_a_larger_choice_keeps_the_smaller_one() -> None:
    few, more = (choose_examples(DATA, n, seed=1) for n in (20, 50))
    assert (len(few), len(more)) == (20, 50)
    assert {e.id for e in few} < {e.id for e in more}
    assert [e for e in DATA if e in more] == more
    assert {e.id for e in few} != {e.id for e in choose_examples(DATA, 20, seed=2)}
    assert {e.id for e in choose_examples(DATA[::-1], 20, seed=1)} == {e.id for e in few}
    assert choose_examples(DATA, 1000) == DATA
