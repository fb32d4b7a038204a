"""Scores of samples: joined to their answers whatever the order, and every failure an error or a count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safetyvalve.data import Message, Prompt, response_id
from safetyvalve.errors import UsageError
from safetyvalve.rewards import Scores
from safetyvalve.training import DataSource, ModelSource, Observation, Optimization, RunSettings, run_training
from safetyvalve.training.scoring import SampleScorer

QUESTIONS = [(Message(role="user", content=text),) for text in ("one?", "two?")]
PROMPTS = [QUESTIONS[0], QUESTIONS[1], QUESTIONS[0]]
ANSWERS = ["a", "bb", "ccc"]


class Lengths:
    """A proxy of two members, the answer's length and three times that, with a width."""

    def __init__(self, unscored: str = "", fail_after: int | None = None) -> None:
        self.unscored, self.fail_after, self.calls = unscored, fail_after, 0

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], *, autocast: Any) -> list[Scores]:
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise RuntimeError("out of memory")
        result = []
        for texts in responses:
            lengths = np.array([np.nan if t == self.unscored else len(t) for t in texts], dtype=float)
            members = np.stack([lengths, 3 * lengths])
            if self.unscored in texts:
                members[0] = [len(t) for t in texts]  # the other member has a score: it cannot stand for both
            result.append(Scores(members, lengths / 10))
        return result


def test_scores_are_joined_to_their_answers() -> None:
    scored = SampleScorer(proxy=Lengths(), held_out_member=Lengths(), independent=lambda p, a: [len(x) for x in a])(
        PROMPTS, ANSWERS, first=True
    )
    assert scored.unscored == {}
    for row, answer in zip(scored.rows, ANSWERS, strict=True):
        n = len(answer)
        assert row == {
            "independent_score": n,
            "proxy_reward": 2 * n,
            "proxy_spread": n,
            "proxy_width": n / 10,
            "held_out_member": 2 * n,
        }


def test_an_answer_that_a_member_cannot_score_is_counted_and_kept() -> None:
    said: list[str] = []
    scorer = SampleScorer(proxy=Lengths("bb"), independent=lambda p, a: [1.0, 2.0, float("nan")], say=said.append)
    scored = scorer(PROMPTS, ANSWERS, first=True)
    assert scored.unscored == {"proxy": 1, "independent": 1}
    assert [row["proxy_reward"] for row in scored.rows] == [2, None, 6]
    assert scored.rows[1] == {
        "independent_score": 2.0,
        "proxy_reward": None,
        "proxy_spread": None,
        "proxy_width": None,
    }
    assert scored.rows[2]["independent_score"] is None
    assert said == ["independent scorer: 1 of 3 answers are unscored", "proxy: 1 of 3 answers are unscored"]


def raising(prompts: list[str], answers: list[str]) -> list[float]:
    raise ConnectionError("gone")


def leaving(prompts: list[str], answers: list[str]) -> list[float]:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("scorer", "fragment"),
    [
        (raising, "failed on the first 3 answers .'ConnectionError: gone'.*nothing was trained"),
        (leaving, "failed on the first 3 answers .'SystemExit: 3'"),
        (lambda p, a: [float("nan")] * 3, "no finite score for any of the first 3"),
        (lambda p, a: [1.0], "gave 1 scores for 3 answers"),
        (lambda p, a: None, "must give a number for each answer"),
    ],
)
def test_what_does_not_work_at_first_is_an_error_and_later_a_count(scorer: Any, fragment: str) -> None:
    said: list[str] = []
    measure = SampleScorer(independent=scorer, proxy=Lengths(), say=said.append)
    with pytest.raises(UsageError, match=fragment):
        measure(PROMPTS, ANSWERS, first=True)
    scored = measure(PROMPTS, ANSWERS, first=False)
    assert scored.unscored == {"independent": 3}
    assert [row["proxy_reward"] for row in scored.rows] == [2, 4, 6]
    assert any("unscored" in line for line in said)


def settings(model: str, data: Path, **changes: Any) -> RunSettings:
    values: dict[str, Any] = {
        "source": DataSource(data, held_out=6),
        "optimization": Optimization(steps=2, prompts_per_step=4, precision="fp32"),
        "observation": Observation(every=1, prompts=3, samples_per_prompt=2, max_new_tokens=6),
    }
    return RunSettings(name="run", model=ModelSource(model), **values | changes)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.usefixtures("own_cache")
def test_a_run_whose_proxy_dies_goes_on(
    model_folder: str, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Lengths(fail_after=2)
    monkeypatch.setattr("safetyvalve.training.pipeline._reward_models", lambda *_: (proxy, None))
    run_training(settings(model_folder, data_file), tmp_path / "run")
    evaluations = [m for m in lines(tmp_path / "run" / "metrics.jsonl") if m["kind"] == "evaluation"]
    assert evaluations[1]["samples/proxy_spread"] == pytest.approx(evaluations[1]["samples/proxy_reward"] / 2)
    assert "samples/proxy_reward_se" in evaluations[0]
    assert evaluations[2]["samples/proxy_unscored"] == 6 and "samples/proxy_reward" not in evaluations[2]
    samples = lines(tmp_path / "run" / "samples" / "step-000001.jsonl")
    for record in samples:
        prompt = tuple(Message(**m) for m in record["prompt"])
        assert record["response_id"] == response_id(prompt, record["response"])
        assert record["proxy_reward"] == 2 * len(record["response"])
        assert record["independent_score"] is None


@pytest.mark.usefixtures("own_cache")
def test_serving_prompts_can_be_the_ones_that_are_sampled(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    serving = tmp_path / "serving.txt"
    serving.write_text("Who goes there?\nWho goes there?\nWhat now?\n")
    source = DataSource(data_file, held_out=6, serving_prompts=serving)
    observation = Observation(every=2, prompts=3, samples_per_prompt=1, max_new_tokens=4, sample_from="serving")
    import safetyvalve.training.pipeline as pipeline

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "prompt_coverage", lambda *_: None)
        patch.setattr(pipeline, "load_encoder", lambda *_: None)
        run_training(settings(model_folder, data_file, source=source, observation=observation), tmp_path / "run")
    asked = [r["prompt"][-1]["content"] for r in lines(tmp_path / "run" / "samples" / "step-000000.jsonl")]
    assert asked == ["Who goes there?", "What now?"]


def test_settings_that_contradict() -> None:
    with pytest.raises(UsageError, match="sample_from is 'mine'; accepted: held-out, serving"):
        Observation(sample_from="mine")
    with pytest.raises(UsageError, match="there are no serving prompts"):
        RunSettings(name="run", source=DataSource("d.jsonl"), observation=Observation(sample_from="serving"))
    with pytest.raises(UsageError, match="which is the proxy itself"):
        Observation(proxy="a", held_out_member="a")
