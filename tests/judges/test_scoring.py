"""Rubrics, and the fake judge's biases."""

from __future__ import annotations

import math
from typing import Any

import pytest

from safetyvalve.errors import JudgeError, UsageError
from safetyvalve.judges import FakeJudge, Opinion, RubricJudge, judge_pairs, pair_answers, verdicts_of
from safetyvalve.judges.tally import Tally, count
from tests.judges.stand_in import answer, some_pairs


def _by_length(prompts: list[str], answers: list[str]) -> list[float]:
    return [float(len(a)) for a in answers]


def test_a_rubric_needs_one_order_and_its_name_is_the_rater() -> None:
    judge = RubricJudge(_by_length, "lengths:score")
    (judgment,) = judge_pairs(judge, some_pairs(1))
    opinion = judgment.opinions["a_first"]
    assert isinstance(opinion, Opinion)
    assert opinion.scores == (6.0, 5.0)
    (verdict,) = verdicts_of(judgment, judge, "lengths:score")
    assert (verdict.verdict, verdict.rater_kind, verdict.position) == ("a", "rubric", None)
    assert (verdict.length_a, verdict.length_b) == (6, 5)


def test_the_margin_makes_ties() -> None:
    def choice(margin: float) -> str:
        (judgment,) = judge_pairs(RubricJudge(_by_length, "r", margin=margin), some_pairs(1))
        opinion = judgment.opinions["a_first"]
        assert isinstance(opinion, Opinion)
        return opinion.choice

    assert [choice(m) for m in (0, 0.99, 1, 2)] == ["first", "first", "tie", "tie"]
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(UsageError, match="tie-margin"):
            RubricJudge(_by_length, "r", margin=wrong)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([1.0, math.nan], r"gave nan for the answer 'BAD 0'"),
        ([math.inf, 1.0], r"gave inf for the answer 'GOOD 0'"),
        ([1.0], "gave 1 scores for 2 answers"),
        ([1.0, "x"], "must give a number"),
        (None, "must give a number"),
    ],
)
def test_scores_that_are_none(given: Any, says: str) -> None:
    with pytest.raises(JudgeError, match=says):
        judge_pairs(RubricJudge(lambda p, a: given, "r"), some_pairs(1))


def _tally(judge: FakeJudge, n: int = 400) -> Tally:
    return count([verdicts_of(j, judge, judge.name) for j in judge_pairs(judge, some_pairs(n))])


def test_a_fake_without_bias_agrees_with_itself_and_favours_nobody() -> None:
    tally = _tally(FakeJudge())
    assert tally.disagreed == 0
    assert tally.first_won * 2 == tally.decided == 800
    wins = tally.by_models["bad", "good"]["b"]
    assert abs(wins - 200) < 4 * math.sqrt(400 / 4)
    assert _tally(FakeJudge()) == tally
    assert _tally(FakeJudge(seed=1)) != tally


def test_position_bias_shows_as_disagreement() -> None:
    tally = _tally(FakeJudge(position_bias=1.0))
    share = 1 / (1 + math.exp(-1))  # of either order, so the first wins with it
    assert tally.first_won / tally.decided == pytest.approx(share, abs=0.04)
    # Both orders choose the first where the draw lies between 1 - share and share.
    assert tally.disagreed / tally.items == pytest.approx(2 * share - 1, abs=0.1)


def test_length_bias_and_quality_decide() -> None:
    short_is_good = [a for i in range(50) for a in (answer("long", "x" * 63, f"{i}"), answer("short", "x", f"{i}"))]
    pairs = pair_answers(short_is_good).pairs

    def wins_of_long(judge: FakeJudge) -> int:
        tally = count([verdicts_of(j, judge, "fake") for j in judge_pairs(judge, pairs)])
        return tally.by_models["long", "short"]["a"]

    assert wins_of_long(FakeJudge(length_bias=10)) == 50
    assert wins_of_long(FakeJudge(length_bias=-10)) == 0
    assert wins_of_long(FakeJudge(quality=lambda c: -9.0 * len(c[-1].content))) == 0


def test_silence_is_no_verdict() -> None:
    tally = _tally(FakeJudge(none_share=0.25))
    assert tally.by_models["bad", "good"]["none"] == pytest.approx(100, abs=40)
    assert tally.causes == {"silent by design": 2 * tally.by_models["bad", "good"]["none"]}
