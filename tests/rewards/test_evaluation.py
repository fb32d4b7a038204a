"""Evaluation by hand: accuracy, calibration, length bias, members, staleness; and the card that says it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safetyvalve.data import Comparison, Message, PreferenceExample, Response
from safetyvalve.errors import DataError
from safetyvalve.rewards import (
    Aggregation,
    ComparedPair,
    RewardRecord,
    ScoreLine,
    calibration,
    evaluate_pairs,
    pairs_to_judge,
    staleness,
    votes_of_verdicts,
)
from safetyvalve.rewards.card import LIMITS, reward_card
from safetyvalve.rewards.evaluation import accuracy_interval
from safetyvalve.stats import Verdict

MEAN = Aggregation()


def pair(i: int, lengths: tuple[int, int] = (5, 5)) -> ComparedPair:
    return ComparedPair(f"w{i}", f"l{i}", f"c{i // 2}", lengths, {"kind": "ab"[i % 2]})


def line(*rewards: float) -> ScoreLine:
    return ScoreLine(rewards, None, None)


def test_accuracy_slices_members_and_lengths_by_hand() -> None:
    pairs = [pair(0, (9, 3)), pair(1, (3, 9)), pair(2, (9, 3)), pair(3, (3, 9))]
    members = [((2, 1), (0, 2)), ((1, 3), (0, 1)), ((0, 0), (1, 1)), ((1, -3), (0, 0))]
    scores = {
        name: line(*values) for i, (w, lo) in enumerate(members) for name, values in ((f"w{i}", w), (f"l{i}", lo))
    }
    # Margins of the mean: 1.5 - 1 = .5, 2 - .5 = 1.5, 0 - 1 = -1, -1 - 0 = -1.
    found = evaluate_pairs(pairs, scores, MEAN)
    assert found["accuracy"]["estimate"] == 0.5
    assert (found["comparisons"], found["clusters"]) == (4, 2)
    assert found["log_loss"] == pytest.approx(np.mean([math.log1p(math.exp(-m)) for m in (0.5, 1.5, -1, -1)]))
    assert {k: v["estimate"] for k, v in found["slices"]["kind"].items()} == {"a": 0.5, "b": 0.5}
    # Members' margins: (2, -1), (1, 2), (-1, -1), (1, -3): alike in the second and third.
    assert found["members"]["unanimous"] == 0.5
    assert found["members"]["pairwise_agreement"] == 0.5
    assert [m["estimate"] for m in found["members"]["accuracy"]] == [0.75, 0.25]
    # The longer won in pairs 0 and 2; the model prefers the longer in 0 and, wrongly, in 3.
    assert found["length"]["people_prefer_longer"]["estimate"] == 0.5
    assert found["length"]["model_prefers_longer"]["estimate"] == 0.5


def test_an_unscored_response_is_counted_and_its_comparison_left_out() -> None:
    scores = {"w0": line(1.0), "l0": line(0.0), "w1": line(2.0), "l1": ScoreLine((math.nan,), None, "too long")}
    found = evaluate_pairs([pair(0), pair(1)], scores, MEAN)
    assert (found["comparisons"], found["unscored"], found["responses"]["unscored"]) == (2, 1, 1)
    with pytest.raises(DataError, match="none of the 1 comparisons"):
        evaluate_pairs([pair(1)], scores, MEAN)
    with pytest.raises(DataError, match="no line"):
        evaluate_pairs([pair(7)], scores, MEAN)


def test_calibration_by_hand_and_of_a_calibrated_model() -> None:
    margin = math.log(3)  # says 0.75
    found = calibration(np.array([margin, margin, margin, -margin]))
    assert found.ece == pytest.approx(0.0, abs=1e-9)
    assert found.slope == pytest.approx(1.0, abs=1e-3)
    (row,) = found.bins
    assert (row.n, row.said, row.won) == (4, pytest.approx(0.75), 0.75)
    assert calibration(np.array([margin, -margin])).ece == pytest.approx(0.25)
    generator = np.random.default_rng(0)
    true = generator.normal(size=4000)
    drawn = np.where(generator.random(4000) < 1 / (1 + np.exp(-true)), true, -true)
    good, sure = calibration(drawn), calibration(3 * drawn)
    assert good.slope == pytest.approx(1, abs=0.1)
    assert good.ece < 2 * good.ece_if_calibrated
    assert sure.slope == pytest.approx(1 / 3, abs=0.04)
    assert sure.ece > 5 * sure.ece_if_calibrated


def test_all_right_is_not_certain() -> None:
    found = accuracy_interval(np.ones(20), [str(i) for i in range(20)])
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    assert found.high == 1


def sides(right: int, n: int, name: str) -> tuple[np.ndarray, list[str]]:
    return np.array([1.0] * right + [-1.0] * (n - right)), [f"{name}{i}" for i in range(n)]


def test_staleness_has_three_answers() -> None:
    before = sides(700, 1000, "b")
    assert staleness(sides(500, 1000, "n"), before).finding == "stale"
    assert staleness(sides(695, 1000, "n"), before).finding == "not shown to be stale"
    assert staleness(sides(13, 20, "n"), before).finding == "too few"
    assert staleness(sides(10, 10, "n"), before).change.low > -1


def test_pairs_of_examples_know_turns_lengths_and_columns() -> None:
    example = PreferenceExample(
        prompt=(Message(role="user", content="Hello  There"),),
        responses=(Response(content="a" * 150), Response(content="b" * 90)),
        comparisons=(Comparison(winner=1, loser=0),),
    )
    (one,) = pairs_to_judge([example])
    assert one.cluster == "hello there"
    assert one.lengths == (90, 150)
    assert one.slices == {"turns of the user": "1", "longer response": "lost", "length": "under 200 characters"}


def verdict(item: str, value: str, **fields: object) -> Verdict:
    values = {"prompt_id": "p", "model_a": "x", "model_b": "y", "rater": "ann", "rater_kind": "human"} | fields
    return Verdict.model_validate({"item_id": item, "verdict": value} | values)


def test_votes_join_their_answers_by_item() -> None:
    ask, good, bad = (
        Message(role=r, content=c) for r, c in (("user", "q"), ("assistant", "good"), ("assistant", "bad"))
    )
    pairs = {"1": ("y", "x", (ask, bad), (ask, good))}  # sides are named in another order than in the verdicts
    votes = votes_of_verdicts(
        [verdict("1", "a"), verdict("1", "tie"), verdict("1", "b", rater_kind="judge")], pairs, str
    )
    (one,) = votes.pairs
    assert [i.response for i in votes.items if i.id == one.winner] == ["good"]
    assert votes.left_out == {"tie": 1, "of a judge": 1}
    with pytest.raises(DataError, match="item 2 of a vote"):
        votes_of_verdicts([verdict("2", "a")], pairs, str)
    with pytest.raises(DataError, match="in the answers"):
        votes_of_verdicts([verdict("1", "a", model_a="z")], pairs, str)


def test_the_card_says_what_is_known_and_what_is_not() -> None:
    record = RewardRecord("2026-11", "heads", 2, "tree", "abc", data={"file": "a|b.jsonl", "sha256": "ff"})
    empty = reward_card("rm", record, {}, weights_sha256="abc")
    assert "version 2026-11" in empty
    assert "Not measured" in empty
    assert "a\\|b.jsonl" in empty
    assert all(limit in empty for limit in LIMITS)
    assert "not those that were trained" not in empty
    assert "**The weights are not those that were trained**" in reward_card("rm", record, {}, weights_sha256="xyz")
    scores = {"w0": line(1.0, 2.0), "l0": line(0.0, 1.0), "w1": line(2.0, 1.0), "l1": line(0.0, 3.0)}
    values = evaluate_pairs([pair(0), pair(1)], scores, MEAN)
    card = reward_card("rm", record, {"held_out": values}, weights_sha256="abc")
    assert "| accuracy | 0.750" in card
