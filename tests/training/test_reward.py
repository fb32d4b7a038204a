"""Reward training as a run: it learns, a resumed run is bitwise the same, and its commands fit together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from safetyvalve.cli import main
from safetyvalve.errors import UsageError
from safetyvalve.rewards import load_reward
from safetyvalve.training import Checkpointing, DataSource, FineTuning, ModelSource, Optimization
from safetyvalve.training.checkpoints import CheckpointCallback
from safetyvalve.training.reward import Ensemble, Learning, RewardSettings, resume_reward, train_reward
from safetyvalve.training.reward.examples import RewardExample, member_weights, pair_loss, pairs_of
from tests.tiny import random_tree
from tests.training.helpers import tokenized


def settings(data: Path, model: str, **fields: object) -> RewardSettings:
    made = RewardSettings(
        "rm",
        DataSource(data, held_out=6),
        ModelSource(model),
        ensemble=Ensemble(2),
        optimization=Optimization(steps=4, prompts_per_step=4, learning_rate=1e-3, precision="fp32"),
        checkpointing=Checkpointing(2),
        eval_every=2,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def test_it_learns_and_leaves_a_record(data_file: Path, model_folder: str, tmp_path: Path) -> None:
    learn = Optimization(steps=20, prompts_per_step=6, learning_rate=1e-3, precision="fp32")
    result = train_reward(settings(data_file, model_folder, optimization=learn), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert evaluations[-1]["held_out/accuracy"] == 1.0
    assert evaluations[-1]["held_out/preference_loss"] < 0.5 * evaluations[0]["held_out/preference_loss"]
    assert {"spread", "unanimous", "reward_mean", "accuracy"} <= lines[1].keys()
    assert result.engine.engine == "tree"
    model = load_reward(str(tmp_path / "run"))
    assert model.record is not None
    assert model.record.data["examples"] == 18
    assert model.widths
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("sharing", ["heads", "lora"])
def test_a_resumed_run_is_bitwise_the_same(
    sharing: str, data_file: Path, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = FineTuning("lora" if sharing == "lora" else "full")
    chosen = settings(data_file, model_folder, ensemble=Ensemble(2, sharing), fine_tuning=tuning)
    train_reward(chosen, tmp_path / "whole")
    original = CheckpointCallback.on_step_end

    def killed(self: CheckpointCallback, args: object, state: object, control: object, **kwargs: object) -> None:
        if state.global_step == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        original(self, args, state, control, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(CheckpointCallback, "on_step_end", killed)
    with pytest.raises(KeyboardInterrupt):
        train_reward(chosen, tmp_path / "stopped")
    monkeypatch.setattr(CheckpointCallback, "on_step_end", original)
    resume_reward(tmp_path / "stopped")
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole" / "model").rglob("*.safetensors"))
    assert files
    for file in files:
        one, other = (load_file(tmp_path / run / file) for run in ("whole", "stopped"))
        assert all(torch.equal(one[k], other[k]) for k in one), file


def test_any_split_into_micro_batches_gives_the_same_weights(
    data_file: Path, model_folder: str, tmp_path: Path
) -> None:
    for budget in (30, 5000):
        split = Optimization(steps=2, prompts_per_step=6, learning_rate=1e-3, precision="fp32", token_budget=budget)
        train_reward(settings(data_file, model_folder, optimization=split), tmp_path / str(budget))
    one, other = (load_file(tmp_path / b / "model" / "model.safetensors") for b in ("30", "5000"))
    # Adam's first step is about the sign of each gradient, so that those near 0 may turn.
    assert np.mean([float((one[k] - other[k]).abs().mean()) for k in one]) < 1e-5


def test_bootstrap_weights_are_poisson_and_depend_on_text_and_seed_alone() -> None:
    drawn = np.array([member_weights(f"text {i}", 3, seed=0) for i in range(2000)])
    assert drawn.mean() == pytest.approx(1, abs=0.05)
    assert drawn.var() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.06
    assert member_weights("a", 3, seed=0) == member_weights("a", 3, seed=0)
    assert drawn[:50].tolist() != [list(member_weights(f"text {i}", 3, seed=1)) for i in range(50)]


def test_pairs_of_trees_and_their_loss_by_hand() -> None:
    first = tokenized(random_tree(3, 2, 2, 2), ((2, 0, 2.0),), "a")
    second = tokenized(random_tree(3, 2, 2), ((0, 1, 1.0),), "b")
    pairs = pairs_of([RewardExample(first, (1.0, 0.0)), RewardExample(second, (3.0, 1.0))], torch.device("cpu"))
    assert pairs.winner.tolist() == [2, 3]
    assert pairs.loser.tolist() == [0, 4]
    assert pairs.member_weight.tolist() == [[1.0, 3.0], [0.0, 1.0]]
    rewards = torch.tensor([[0.0, 9.0, 1.0, 0.0, 0.0]])
    loss = pair_loss(rewards, pairs, Learning(margin=0.5))
    # Margins 1 - 0 less 0.5 * weight 2, and 0 less 0.5 * weight 1.
    assert loss.tolist()[0] == pytest.approx([np.log(2), np.log1p(np.exp(0.5))], abs=1e-6)


def test_the_commands_fit_together(
    data_file: Path, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "rm")
    options = ["--steps", "2", "--prompts-per-step", "4", "--held-out", "6", "--members", "2", "--precision", "fp32"]
    assert main(["reward", "train", "--data", str(data_file), "--model", model_folder, "--output", run, *options]) == 0
    assert main(["resume", run]) == 2  # finished
    votes = tmp_path / "votes.jsonl"
    votes.write_text(
        "".join(
            json.dumps({"prompt": f"New {i}?", "chosen": f"Yes {i}", "rejected": "No", "who": "ab"[i % 2]}) + "\n"
            for i in range(8)
        )
    )
    scores = tmp_path / "scores.jsonl"
    assert main(["reward", "score", run, str(votes), "--output", str(scores)]) == 0
    assert len(scores.read_text().splitlines()) == 16
    assert main(["reward", "evaluate", run, "--data", str(votes), "--precision", "fp32"]) == 0
    assert main(["reward", "card", run, "--votes", str(votes), "--precision", "fp32"]) == 0
    card = (tmp_path / "rm" / "model" / "README.md").read_text()
    for part in ("## Held-out comparisons", f"## Elsewhere: {votes}", "## Is it still good?", "newer votes"):
        assert part in card
    assert "too few" in capsys.readouterr().out
    assert main(["reward", "evaluate", run, "--slice-by", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": Ensemble(2, "lora")}, "needs --fine-tune lora"),
        ({"fine_tuning": FineTuning("qlora")}, "qlora"),
        ({"ensemble": Ensemble(2, freeze=True), "fine_tuning": FineTuning("lora")}, "heads alone"),
        ({"eval_every": 0}, "eval_every"),
    ],
)
def test_settings_that_contradict_each_other(change: dict[str, object], message: str, data_file: Path) -> None:
    with pytest.raises(UsageError, match=message):
        settings(data_file, "m", **change)
    assert RewardSettings.of(settings(data_file, "m").flat()) == settings(data_file, "m")
    for bad in (lambda: Ensemble(0), lambda: Ensemble(2, "wings"), lambda: Learning(margin=-1)):
        with pytest.raises(UsageError):
            bad()
