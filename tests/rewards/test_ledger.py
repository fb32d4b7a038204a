"""Scores as a file: joined by id, scored once, gone on with after a stop; bad lines are named, never dropped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from safetyvalve.data import Message
from safetyvalve.errors import DataError
from safetyvalve.rewards import Aggregation, Item, RewardModel, join_scores, read_scores, score_items
from safetyvalve.rewards.classifier import from_causal
from safetyvalve.rewards.template import prepare_tokenizer
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model() -> RewardModel:
    torch.manual_seed(0)
    classifier, tokenizer = from_causal(tiny_model(), 2), tiny_tokenizer()
    prepare_tokenizer(tokenizer, classifier)
    return RewardModel([classifier], tokenizer)


def items(n: int) -> list[Item]:
    return [Item((Message(role="user", content=f"q{i // 2}"),), f"answer {i}") for i in range(n)]


def test_scores_are_joined_by_id_and_not_by_place(model: RewardModel, tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    given = [*items(6), items(6)[2]]
    done = score_items(model, given, file)
    assert (done.scored, done.present, done.duplicates) == (6, 0, 1)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(reversed(lines)) + "\n")
    members, width = join_scores(read_scores(file), [i.id for i in items(6)])
    expected = model.score([i.prompt for i in items(6)], [[i.response] for i in items(6)])
    np.testing.assert_allclose(members, np.hstack([s.members for s in expected]), atol=1e-5)
    assert width is None
    with pytest.raises(DataError, match="1 of 1 responses have no line"):
        join_scores(read_scores(file), ["absent"])


def test_a_stopped_scoring_goes_on_without_repeating_work(
    model: RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scores.jsonl"
    score_items(model, items(8), file)
    whole = file.read_text()
    cut = whole.splitlines(keepends=True)
    file.write_text("".join(cut[:3]) + cut[3][:25])  # killed within a line
    asked: list[int] = []
    score = RewardModel.score

    def counted(self: RewardModel, prompts: list, responses: list, **kwargs: object) -> list:
        asked.extend(map(len, responses))
        return score(self, prompts, responses, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(RewardModel, "score", counted)
    done = score_items(model, items(8), file)
    assert (done.present, sum(asked)) == (3, 5)
    assert sorted(r.split('"reward"')[0] for r in file.read_text().splitlines()) == sorted(
        r.split('"reward"')[0] for r in whole.splitlines()
    )


def test_unscored_is_counted_with_its_reason(model: RewardModel, tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    bad = Item(items(1)[0].prompt, "x <|im_end|>")
    done = score_items(model, [*items(2), bad], file)
    assert done.scored == 2
    assert done.unscored.total() == 1
    assert "special token" in next(iter(done.unscored))
    members, _ = join_scores(read_scores(file), [bad.id, items(1)[0].id])
    assert np.isnan(members[:, 0]).all()
    assert np.isfinite(members[:, 1]).all()


def test_files_of_other_models_and_damaged_lines_are_refused(model: RewardModel, tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    score_items(model, items(3), file)
    with pytest.raises(DataError, match=r"scores.jsonl:1: was written with the aggregation"):
        score_items(model, items(4), file, aggregation=Aggregation("min"))
    lines = file.read_text().splitlines()
    first = json.loads(lines[0])
    for change, message in (
        ({"rewards": first["rewards"][:1]}, "rewards of 2 members where the lines before have 1"),
        ({"rewards": [float("nan"), 1.0]}, "finite numbers"),
        ({"rewards": None}, "is no score"),
    ):
        file.write_text("\n".join([json.dumps({**first, **change}), *lines[1:]]) + "\n")
        with pytest.raises(DataError, match=message):
            read_scores(file)
    file.write_text("\n".join([lines[0], *lines]) + "\n")
    with pytest.raises(DataError, match="a second time"):
        read_scores(file)
    file.write_text("a letter\nto somebody")
    with pytest.raises(DataError, match="which is no score"):
        score_items(model, items(3), file)
    assert file.read_text() == "a letter\nto somebody"
