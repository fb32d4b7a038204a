"""The multiplier of the displacement constraint: by hand, on a simple plant, and in a run that is resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from safetyvalve.errors import RunError, UsageError
from safetyvalve.training import (
    Checkpointing,
    DataSource,
    DisplacementMultiplier,
    Objective,
    Observation,
    Optimization,
    PolicyTrainer,
    Progress,
    resume_training,
    run_training,
)
from safetyvalve.training.choosing import control_examples
from tests.training.helpers import write_pairs
from tests.training.test_run import lines, settings

pytestmark = pytest.mark.usefixtures("own_cache")


def test_update_by_hand() -> None:
    m = DisplacementMultiplier(0.1, start=2.0, rate=0.5, damping=1.0, memory=0.5)
    eta = m.observe(0.15)  # violation 0.5
    assert m.log_multiplier == pytest.approx(math.log(2) + 0.25)
    assert eta == pytest.approx(2 * math.exp(0.25 + 0.25))
    eta = m.observe(0.0)  # violation -1; running mean 0.5 * 0.25 - 0.5 = -0.375
    assert eta == pytest.approx(2 * math.exp(0.25 - 0.5))  # there is room: no damping
    assert m.observe(100.0) == pytest.approx(2 * math.exp(-0.25 + 0.5 + 0.5 * -0.375 + 0.5))  # cut at 1


def test_bounds() -> None:
    m = DisplacementMultiplier(0.1, start=1.0, least=0.5, most=2.0)
    assert [m.observe(9.0) for _ in range(20)][-1] == 2.0
    assert [m.observe(-9.0) for _ in range(40)][-1] == 0.5
    assert m.observe(9.0) > 0.5  # it does not wind up beyond the bounds


@pytest.mark.parametrize("needed", [0.05, 1.0, 10.0])
def test_it_holds_a_simple_plant_at_its_limit(needed: float) -> None:
    """Displacement that grows below the eta that is needed and shrinks above it."""
    m, displacement, late = DisplacementMultiplier(0.05), 0.0, []
    for step in range(150):
        displacement += 0.006 * max(-3.0, min(3.0, math.log(needed / m.eta)))
        m.observe(displacement)
        late += [displacement] if step >= 100 else []
    assert sum(late) / len(late) == pytest.approx(0.05, rel=0.05)
    assert m.eta == pytest.approx(needed, rel=0.1)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_limits_out_of_range(limit: float) -> None:
    with pytest.raises(UsageError, match=r"max_displacement is .*above 0, in nats per token"):
        Objective("rpo", max_displacement=limit)


def test_only_rpo_has_the_multiplier() -> None:
    for name in ("dpo", "ipo", "sft"):
        with pytest.raises(UsageError, match=f"max_displacement 0.05 has no meaning for the objective '{name}'"):
            Objective(name, max_displacement=0.05)
    assert Objective("rpo", max_displacement=0.05).eta == 3.0
    assert Objective("rpo").eta == 0.05
    with pytest.raises(UsageError, match=r"eta is 0.*where the search starts"):
        Objective("rpo", eta=0, max_displacement=0.05)


def test_state_of_another_limit_is_refused(tmp_path: Path) -> None:
    DisplacementMultiplier(0.05).save(tmp_path)
    with pytest.raises(RunError, match=r"made with max_displacement 0\.05 and the run says 0\.1"):
        DisplacementMultiplier(0.1).load(tmp_path)
    with pytest.raises(RunError, match=r"no multiplier\.json"):
        DisplacementMultiplier(0.1).load(tmp_path / "nothing")


def test_a_resumed_run_is_bitwise_the_same(model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that eta moves, is what the loss was made with, and follows examples that are not measured."""
    chosen = settings(
        model_folder,
        write_pairs(tmp_path / "more.jsonl", 48),
        source=DataSource(tmp_path / "more.jsonl", held_out=24),
        objective=Objective("rpo", beta=0.1, max_displacement=0.05),
        optimization=Optimization(steps=5, prompts_per_step=4, learning_rate=1e-3, precision="fp32"),
        observation=Observation(every=5, held_out_examples=8, prompts=0),
        checkpointing=Checkpointing(2),
    )
    run_training(chosen, tmp_path / "whole")
    train = [m for m in lines(tmp_path / "whole" / "metrics.jsonl") if m["kind"] == "train"]
    assert len({m["eta"] for m in train}) == 5
    again = DisplacementMultiplier(0.05)
    assert [again.observe(m["displacement"]) for m in train] == [m["eta"] for m in train]
    for m in train:
        nll = m["sft_term"] / (m["eta"] * 0.1)  # the mean of sums under the step's own eta
        assert nll > 1 and m["loss"] == pytest.approx(m["preference_loss"] + m["sft_term"], rel=1e-5)

    real = PolicyTrainer.training_step

    def stops(self: PolicyTrainer, *args: object, **kwargs: object) -> object:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PolicyTrainer, "training_step", stops)
        run_training(chosen, tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "checkpoints" / "checkpoint-2" / "multiplier.json").read_text())["eta"]
    resume_training(tmp_path / "cut", lambda name: None)
    ours = [m for m in lines(tmp_path / "cut" / "metrics.jsonl") if m["kind"] == "train"]
    assert [(m["eta"], m["loss"]) for m in ours] == [(m["eta"], m["loss"]) for m in train]
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_nothing_to_steer_by() -> None:
    with pytest.raises(UsageError, match=r"max_displacement is 0\.05 and no held-out example"):
        control_examples([], None, Objective("rpo", max_displacement=0.05), Observation(), Progress(enabled=False))
    assert control_examples([], None, Objective("rpo"), Observation(), Progress(enabled=False)) == []
