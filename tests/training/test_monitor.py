"""The monitor in TRL's own DPOTrainer, on a tiny model, and its rule on logs by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from safetyvalve.errors import UsageError
from safetyvalve.training import OveroptimizationMonitor
from tests.tiny import tiny_model, tiny_tokenizer


def feed(monitor: OveroptimizationMonitor, logs: list[dict[str, float]], **args: Any) -> TrainerControl:
    control = TrainerControl()
    for step, entry in enumerate(logs, 1):
        monitor.on_log(SimpleNamespace(**args), TrainerState(global_step=step), control, logs=entry)
    return control


def test_rewards_are_beta_times_a_sum() -> None:
    """rewards/chosen of -1, -2, -3 at beta 0.1 are changes of -10, -20, -30 nats a response, of 100 tokens each."""
    monitor = OveroptimizationMonitor(0.05, window=3, tokens=100.0, alpha=0.2)
    feed(monitor, [{"rewards/chosen": -r, "logps/chosen": -50.0} for r in (1.0, 2.0, 3.0)], beta=0.1)
    (said,) = monitor.alarms
    assert said.value == pytest.approx(-0.2)
    assert said.bound == pytest.approx(-0.2 + 2.9200 * 0.1 / 3**0.5 * 0.6457, abs=0.2)
    assert said.bound == pytest.approx(-0.2 + 1.8856 * 0.1 / 3**0.5, abs=1e-4)  # t of 2 degrees at 1 - 0.2 / 2
    assert said.raised is (said.bound < -0.05)


def test_without_beta_the_first_log_is_the_start() -> None:
    monitor = OveroptimizationMonitor(window=3, tokens=10.0)
    feed(monitor, [{"logps/chosen": v} for v in (-40.0, -44.0, -48.0)])
    assert monitor.alarms[0].value == pytest.approx(-0.4)


def test_evaluations_are_compared_as_they_are() -> None:
    heard: list[Any] = []
    monitor = OveroptimizationMonitor(0.1, tokens=10.0, stop=True, tell=heard.append)
    control = feed(monitor, [{"eval_rewards/chosen": -0.05}], beta=0.1)
    assert not monitor.raised and not control.should_training_stop
    control = feed(monitor, [{"eval_rewards/chosen": -0.2}], beta=0.1)
    assert monitor.raised and control.should_training_stop
    assert [a.value for a in heard] == [pytest.approx(-0.2)]


def test_refusals() -> None:
    with pytest.raises(UsageError, match="window is 2"):
        OveroptimizationMonitor(window=2)
    with pytest.raises(UsageError, match="tokens is 0"):
        OveroptimizationMonitor(tokens=0)
    monitor = OveroptimizationMonitor()
    with pytest.raises(UsageError, match="no column 'chosen_ids'"):
        monitor.on_train_begin(SimpleNamespace(), TrainerState(), TrainerControl())
    monitor = OveroptimizationMonitor(tokens=5)
    with pytest.raises(UsageError, match=r"ld_alpha is 0\.5"):
        monitor.on_train_begin(SimpleNamespace(ld_alpha=0.5), TrainerState(), TrainerControl())
    with pytest.raises(UsageError, match="logged neither"):
        monitor.on_train_end(SimpleNamespace(), TrainerState(global_step=9), TrainerControl())


@pytest.mark.parametrize("weight", [-0.5, 0.5])
def test_in_trls_dpo_trainer(weight: float, tmp_path: Path) -> None:
    """DPO beside an SFT term that pushes the chosen responses down, or up."""
    pytest.importorskip("trl", reason="TRL is installed with the extra 'dev'")
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": f"Say {i}.", "chosen": f"yes {i} it is so", "rejected": f"no {i} it is"} for i in range(24)]
    monitor = OveroptimizationMonitor(0.05, window=3, stop=True, tell=lambda alarm: None)
    trainer = DPOTrainer(
        model=tiny_model(seed=0),
        ref_model=tiny_model(seed=0),
        args=DPOConfig(
            str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            max_steps=12,
            learning_rate=2e-3,
            per_device_train_batch_size=4,
            logging_steps=1,
            save_strategy="no",
            beta=0.5,
            gradient_checkpointing=False,
            disable_tqdm=True,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, weight],
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        callbacks=[monitor],
    )
    trainer.train()
    lengths = [len(ids) for ids in trainer.train_dataset["chosen_ids"]]
    assert monitor.tokens == pytest.approx(sum(lengths) / len(lengths))
    logged = [entry for entry in trainer.state.log_history if "rewards/chosen" in entry]
    first = [entry["rewards/chosen"] / 0.5 / monitor.tokens for entry in logged[:3]]
    assert monitor.alarms[0].value == pytest.approx(sum(first) / 3)
    assert logged[0]["rewards/chosen"] == pytest.approx(0, abs=1e-4)  # step 0 is the reference
    assert monitor.raised is (weight < 0)
    assert trainer.state.global_step == (monitor.alarms[-1].step if weight < 0 else 12)
