"""Answers to pairs: what joins, what does not, and what is said about it."""

from __future__ import annotations

import pytest

from safetyvalve.data import Message
from safetyvalve.errors import DataError, UsageError
from safetyvalve.judges import draw_prompts, pair_answers
from safetyvalve.judges.items import item_id
from tests.judges.stand_in import answer, some_pairs


def test_every_two_models_are_paired_sample_by_sample() -> None:
    answers = [answer(m, f"{m}{s}", sample=s) for m in "abc" for s in (0, 1)]
    pairs = pair_answers(answers).pairs
    assert sorted((p.model_a, p.model_b, *p.answers) for p in pairs) == sorted(
        (x, y, f"{x}{s}", f"{y}{s}") for x, y in ("ab", "ac", "bc") for s in (0, 1)
    )


def test_an_item_is_the_same_whichever_answer_comes_first() -> None:
    one, other = answer("x", "1"), answer("y", "2")
    assert item_id(one, other) == item_id(other, one)
    assert item_id(one, other) != item_id(one, other._replace(text="3"))
    assert item_id(one, other) != item_id(one._replace(text="2"), other._replace(text="1"))


def test_answers_that_do_not_join() -> None:
    answers = [answer("a", "1", "p"), answer("b", "2", "p"), answer("a", "3", "q"), answer("b", "4", "r")]
    with pytest.raises(DataError, match=r"2 answers lack a partner \('a': 1, 'b': 1\).*1 pairs join"):
        pair_answers(answers)
    paired = pair_answers(answers, common_only=True)
    assert len(paired.pairs) == 1
    assert {a.text for a in paired.unmatched} == {"3", "4"}
    with pytest.raises(DataError, match="0 pairs join"):
        pair_answers(answers[2:], common_only=True)


def test_more_answers_of_one_model_than_of_the_other() -> None:
    answers = [answer("a", "1"), answer("a", "2", sample=1), answer("b", "3")]
    with pytest.raises(DataError, match="1 answers lack a partner \\('a': 1\\)"):
        pair_answers(answers)


def test_an_answer_given_twice() -> None:
    with pytest.raises(DataError, match="second answer"):
        pair_answers([answer("a", "1"), answer("a", "1"), answer("b", "2")])


def test_the_same_answers_under_two_prompt_ids() -> None:
    twice = [answer(m, m)._replace(prompt_id=i) for i in "12" for m in "ab"]
    with pytest.raises(DataError, match="same answers"):
        pair_answers(twice)


def test_two_prompts_under_one_id() -> None:
    with pytest.raises(DataError, match=r"has two texts: 'p'.*'q'"):
        pair_answers([answer("a", "1", "p")._replace(prompt_id="7"), answer("b", "2", "q")._replace(prompt_id="7")])


def test_turns_of_the_models_themselves_may_differ() -> None:
    def second_turn(model: str) -> tuple[Message, ...]:
        return (
            Message(role="user", content="p"),
            Message(role="assistant", content=f"{model} said"),
            Message(role="user", content="and?"),
        )

    answers = [answer(m, "x")._replace(prompt_id="7", prompt=second_turn(m)) for m in "ab"]
    assert len(pair_answers(answers).pairs) == 1


def test_one_model_is_nothing_to_compare() -> None:
    with pytest.raises(UsageError, match="answers of 1 model \\(a\\)"):
        pair_answers([answer("a", "1")])


def test_drawn_prompts_carry_their_chance() -> None:
    pairs = some_pairs(10)
    drawn = draw_prompts(pairs, 4, seed=1)
    assert len(drawn) == 4
    assert {p.inclusion_probability for p in drawn} == {0.4}
    assert drawn == draw_prompts(pairs, 4, seed=1)
    assert drawn != draw_prompts(pairs, 4, seed=2)
    assert draw_prompts(pairs, 10, seed=1) == pairs
    with pytest.raises(UsageError, match="at least 1"):
        draw_prompts(pairs, 0, seed=1)
