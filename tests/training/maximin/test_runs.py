"""Runs of the game on a tiny model: the folder, the report, and that a stopped one goes on bitwise."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from safetyvalve.errors import RunError, UsageError
from safetyvalve.report import read_run, write_report
from safetyvalve.rewards import load_reward
from safetyvalve.training import (
    Algorithm,
    Checkpointing,
    DataSource,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    RunSettings,
    dry_run,
    resume_training,
    run_training,
)
from safetyvalve.training.maximin import MaximinTrainer
from safetyvalve.training.reward import RewardSettings, train_reward
from tests.tiny import tiny_model, tiny_tokenizer
from tests.training.helpers import write_pairs

TIMES = {"seconds", "resident_gib", "tokens_per_second", "sampling_seconds"}
STEPS = 4


class StoppedError(Exception):
    """As if the process had ended here."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, data and a reward model trained on them for two steps."""
    folder = tmp_path_factory.mktemp("source")
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    write_pairs(folder / "data.jsonl", 16)
    settings = RewardSettings(
        name="start",
        version="1",
        source=DataSource(folder / "data.jsonl", held_out=4),
        model=ModelSource(str(folder / "model")),
        optimization=Optimization(steps=2, prompts_per_step=4, learning_rate=1e-4, precision="fp32"),
    )
    train_reward(settings, folder / "start")
    return folder


@pytest.fixture(autouse=True)
def own_cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(source / "cache"))


def settings(source: Path, **changes: Any) -> RunSettings:
    return RunSettings(
        name="tiny",
        source=DataSource(source / "data.jsonl", held_out=4),
        model=ModelSource(str(source / "model")),
        algorithm=Algorithm(
            "maximin",
            **{
                "reward": str(source / "start"),
                "adversary_eta": 0.5,
                "policy_samples": 3,
                "policy_max_tokens": 5,
                "reward_learning_rate": 1e-4,
                **changes,
            },
        ),
        objective=Objective("maximin", beta=0.1),
        optimization=Optimization(steps=STEPS, prompts_per_step=4, learning_rate=1e-3, precision="fp32"),
        observation=Observation(every=2, held_out_examples=4, prompts=2, samples_per_prompt=2, max_new_tokens=5),
        checkpointing=Checkpointing(2),
        scorer="lengths",
    )


def lengths(prompts: list[str], answers: list[str]) -> list[float]:
    return [float(len(a)) for a in answers]


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stopped."""
    output = tmp_path_factory.mktemp("whole") / "run"
    os.environ["SAFETYVALVE_CACHE"] = str(source / "cache")
    run_training(settings(source), output, scorer=lengths)
    return output


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in m.items() if k not in TIMES} for m in found if m["kind"] == kind]


def test_the_record(whole: Path) -> None:
    """A line a step with both players' figures, each documented, evaluations with the live reward beside the scorer."""
    steps, seen = lines(whole, "train"), lines(whole, "evaluation")
    assert [m["step"] for m in steps] == [1, 2, 3, 4]
    assert [m["step"] for m in seen] == [0, 2, 4]
    assert all(math.isfinite(v) for m in [*steps, *seen] for v in m.values() if isinstance(v, float))
    for m in steps:
        assert m["loss"] == pytest.approx(0.1 * m["kl_k1"] - m["adversarial_gap"], abs=1e-5)
        assert m["adversarial_gap"] == pytest.approx(m["policy_reward"] - m["baseline_reward"], abs=1e-5)
        assert m["unscored"] == 0
    assert steps[0]["kl_k1"] == pytest.approx(0.0, abs=1e-4)
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    names = set().union(*steps, *seen)
    assert not [n for n in names if f"`{n.rpartition('/')[2]}`" not in page and n not in ("kind", "step")]
    records = [json.loads(line) for line in (whole / "samples" / "step-000004.jsonl").read_text().splitlines()]
    assert all(r["proxy_spread"] == 0.0 and r["independent_score"] == len(r["response"]) for r in records)


def test_the_reward_that_is_left_is_the_one_that_scored(whole: Path, source: Path) -> None:
    """RUN/reward loads, gives the last evaluation's rewards, and is not the one that it started from."""
    records = [json.loads(line) for line in (whole / "samples" / "step-000004.jsonl").read_text().splitlines()]
    left, start = load_reward(str(whole / "reward")), load_reward(str(source / "start"))
    assert left.record is not None
    assert left.record.version == "1+maximin"
    assert left.record.training["maximin"]["adversary_eta"] == 0.5
    prompts = [tuple({"role": m["role"], "content": m["content"]} for m in r["prompt"]) for r in records]
    from safetyvalve.data import Message

    texts = [tuple(Message(**m) for m in p) for p in prompts]
    for model, same in ((left, True), (start, False)):
        scores = model.score(texts, [[r["response"]] for r in records])
        close = [abs(s.members[0][0] - r["proxy_reward"]) < 1e-4 for s, r in zip(scores, records, strict=True)]
        assert all(close) == same


def test_the_report(whole: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_report([whole], page)
    assert "maximin" in page.read_text()
    assert read_run(whole).series("samples/independent_score")[0] == [0, 2, 4]
    assert "Algorithm 1" in (whole / "model" / "README.md").read_text()


@pytest.mark.parametrize("step", [1, 3])
def test_stopped_in_a_step(
    step: int, source: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a first checkpoint, and after one: both players' weights, every metric and every sample are the same."""
    real = MaximinTrainer.training_step

    def stops(self: MaximinTrainer, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)  # the reward has moved, the policy has not
        if self.state.global_step == step:
            raise StoppedError
        return result

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(MaximinTrainer, "training_step", stops)
        run_training(settings(source), run, scorer=lengths)
    resume_training(run, lambda name: lengths)
    for kind in ("train", "evaluation"):
        assert lines(run, kind) == lines(whole, kind)
    for part in ("model", "reward"):
        ours, theirs = (load_file(f / part / "model.safetensors") for f in (run, whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for file in (whole / "samples").iterdir():
        assert (run / "samples" / file.name).read_text() == file.read_text()


def test_another_reward_is_not_resumed_with(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(source / "start", tmp_path / "start")
    started = settings(source, reward=str(tmp_path / "start"))

    def stops(self: MaximinTrainer, *args: Any, **kwargs: Any) -> Any:
        raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(MaximinTrainer, "training_step", stops)
        run_training(started, tmp_path / "run")
    weights = tmp_path / "start" / "model" / "model.safetensors"
    from safetensors.torch import save_file

    state = load_file(weights)
    save_file({n: t * 1.5 for n, t in state.items()}, weights, metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"the reward model of .* has changed"):
        resume_training(tmp_path / "run", lambda name: None)


def test_no_dry_run(source: Path) -> None:
    with pytest.raises(UsageError, match="dry_run has no meaning for the algorithm 'maximin'"):
        dry_run(settings(source))
