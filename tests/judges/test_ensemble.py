"""An ensemble as a judge: the aggregated reward decides; a trained one-member model is the same to both judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from safetyvalve.errors import UsageError
from safetyvalve.judges import Opinion, judge_pairs
from safetyvalve.judges.ensemble import EnsembleJudge
from safetyvalve.judges.reward import RewardJudge, load_reward_judge
from safetyvalve.rewards import Aggregation, RewardModel, RewardRecord, aggregate, save_reward
from safetyvalve.rewards.classifier import from_causal
from safetyvalve.rewards.template import prepare_tokenizer
from tests.judges.stand_in import some_pairs
from tests.tiny import tiny_model, tiny_tokenizer


def saved(members: int, folder: Path, aggregation: Aggregation) -> Path:
    torch.manual_seed(0)
    classifier, tokenizer = from_causal(tiny_model(), members), tiny_tokenizer()
    prepare_tokenizer(tokenizer, classifier)
    record = RewardRecord("1", "heads", members, "tree", "", aggregation=aggregation)
    save_reward(RewardModel([classifier], tokenizer, engine="tree"), folder, record)
    return folder


def opinions(judge: RewardJudge | EnsembleJudge) -> list[tuple[float, float] | None]:
    found = [j.opinions["a_first"] for j in judge_pairs(judge, some_pairs(4))]
    return [o.scores for o in found if isinstance(o, Opinion)]


def test_one_member_is_the_same_to_both_judges(tmp_path: Path) -> None:
    folder = saved(1, tmp_path / "rm", Aggregation())
    ours = load_reward_judge(str(folder))
    assert isinstance(ours, EnsembleJudge)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    plain = RewardJudge(model, AutoTokenizer.from_pretrained(folder), "plain")
    for one, other in zip(opinions(ours), opinions(plain), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_an_ensemble_judges_by_its_aggregation(tmp_path: Path) -> None:
    folder = saved(3, tmp_path / "rm", Aggregation("min"))
    judge = load_reward_judge(str(folder))
    assert isinstance(judge, EnsembleJudge)
    assert judge.settings["aggregation"] == "min"
    first = some_pairs(4)[0]
    (scores,) = judge.model.score([first.a[:-1]], [[first.a[-1].content, first.b[-1].content]])
    expected = aggregate(scores.members, "min")
    assert opinions(judge)[0] == pytest.approx(tuple(expected), abs=1e-5)
    other = load_reward_judge(str(folder), aggregation=Aggregation("mean-std", 2.0))
    assert not np.allclose(opinions(other)[0] or (), expected, atol=1e-3)
    model = AutoModelForSequenceClassification.from_pretrained(saved(1, tmp_path / "one", Aggregation()))
    model.save_pretrained(tmp_path / "foreign")
    AutoTokenizer.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "foreign")
    with pytest.raises(UsageError, match="--aggregation is for"):
        load_reward_judge(str(tmp_path / "foreign"), aggregation=Aggregation())


def test_what_has_no_reward_is_no_verdict(tmp_path: Path) -> None:
    from safetyvalve.judges import pair_answers
    from tests.judges.stand_in import answer

    judge = load_reward_judge(str(saved(2, tmp_path / "rm", Aggregation())))
    pairs = pair_answers([answer("x", "long " * 200), answer("y", "short")]).pairs
    (judgment,) = judge_pairs(judge, pairs)
    opinion = judgment.opinions["a_first"]
    assert isinstance(opinion, Opinion)
    assert (opinion.choice, opinion.cause) == ("none", "longer than the context")
