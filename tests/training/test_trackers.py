"""What trackers are sent: settings, every step's meters and every evaluation, at their steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from safetyvalve.errors import UsageError
from safetyvalve.training import (
    Checkpointing,
    DataSource,
    ModelSource,
    Observation,
    Optimization,
    PolicyTrainer,
    Reporting,
    RunSettings,
    resume_training,
    run_training,
)
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": f"Q{i}", "chosen": "Yes.", "rejected": "No."} for i in range(20)]
    Path("data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    tiny_model().save_pretrained("model")
    tiny_tokenizer().save_pretrained("model")

    def train(name: str, *report_to: str, data: str = "data.jsonl", checkpoint_every: int = 50) -> list[dict[str, Any]]:
        settings = RunSettings(
            name,
            DataSource(Path(data), held_out=0.2),
            ModelSource("model"),
            optimization=Optimization(steps=4, prompts_per_step=4, precision="fp32"),
            observation=Observation(every=2, prompts=1, samples_per_prompt=1, max_new_tokens=3),
            checkpointing=Checkpointing(checkpoint_every),
            reporting=Reporting(report_to),
        )
        run_training(settings, Path(name))
        return [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]

    return train


def test_tensorboard_holds_what_the_record_holds(run: Any) -> None:
    metrics = run("mine", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("mine/tensorboard")
    events.Reload()
    names = set(events.Tags()["scalars"])
    for kind, prefix, sample in (("train", "train", "margin"), ("evaluation", "eval", "held_out/margin")):
        rows = [m for m in metrics if m["kind"] == kind]
        sent = [(e.step, e.value) for e in events.Scalars(f"{prefix}/{sample}")]
        assert sent == [(m["step"], pytest.approx(m[sample], rel=1e-6)) for m in rows]
        assert {f"{prefix}/{key}" for key in rows[0] if key not in ("kind", "step")} <= names
    assert [e.step for e in events.Scalars("eval/samples/kl")] == [0, 2, 4]
    (args,) = events.Tensors("args/text_summary")
    assert json.loads(args.tensor_proto.string_val[0])["safetyvalve/beta"] == 0.05
    assert not Path("mine/checkpoints").exists()


def test_reporting_does_not_change_the_run(run: Any) -> None:
    without, with_it = run("without"), run("with", "tensorboard")
    assert [m["margin"] for m in without if m["kind"] == "train"] == [
        m["margin"] for m in with_it if m["kind"] == "train"
    ]
    assert [m["kind"] for m in without] == [m["kind"] for m in with_it]


def test_mlflow_is_sent_settings_and_figures(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package; transformers' own integration calls it."""
    sent: dict[str, Any] = {"params": {}, "metrics": []}
    active = SimpleNamespace(info=SimpleNamespace(run_id="1"))
    module = ModuleType("mlflow")
    module.__spec__ = SimpleNamespace(name="mlflow")  # type: ignore[assignment]
    module.__dict__.update(
        __version__="3.0.0",
        utils=SimpleNamespace(validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)),
        is_tracking_uri_set=lambda: False,
        active_run=lambda: active if "run_name" in sent else None,
        start_run=lambda run_name, nested: sent.update(run_name=run_name),
        end_run=lambda: sent.update(ended=True),
        log_params=lambda params, synchronous: sent["params"].update(params),
        log_metrics=lambda metrics, step, synchronous: sent["metrics"].append((step, metrics)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    metrics = run("mine", "mlflow")
    assert sent["run_name"] == "mine"
    assert sent["ended"]
    assert sent["params"]["safetyvalve/objective"] == "rpo"
    assert sent["params"]["safetyvalve/eta"] == 0.05
    evaluations = [m for m in metrics if m["kind"] == "evaluation"]
    assert [(step, m["eval_samples/kl"]) for step, m in sent["metrics"] if "eval_samples/kl" in m] == [
        (m["step"], m["samples/kl"]) for m in evaluations
    ]
    assert [(step, m["margin"]) for step, m in sent["metrics"] if "margin" in m] == [
        (m["step"], m["margin"]) for m in metrics if m["kind"] == "train"
    ]


def test_tensorboard_shows_the_steps_of_a_resumed_run_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in step 4, after the checkpoint of step 2: step 3 is done, and sent, again."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    step = PolicyTrainer.training_step

    def stop(self: PolicyTrainer, *arguments: Any) -> Any:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(PolicyTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run("mine", "tensorboard", checkpoint_every=2)
    resume_training(Path("mine"), lambda name: None)
    assert len(list(Path("mine/tensorboard").iterdir())) == 2
    events = EventAccumulator("mine/tensorboard")
    events.Reload()
    assert [e.step for e in events.Scalars("train/margin")] == [1, 2, 3, 4]
    assert [e.step for e in events.Scalars("eval/held_out/margin")] == [0, 2, 4]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_are_sent_the_same(run: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package = MagicMock(__spec__=SimpleNamespace(name=name), __version__="1.0", run=None)
    package.context_vars.current_space_id.get.return_value = None  # trackio: nothing goes to the hub
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, "wandb.sdk.lib.config_util", MagicMock(ConfigError=KeyError))
    package.init.side_effect = lambda **_: setattr(package, "run", MagicMock())
    metrics = run("mine", name)
    (started,) = package.init.call_args_list
    assert started.kwargs["name"] == "mine"
    assert started.kwargs["project"] == {"trackio": "safetyvalve", "wandb": "huggingface"}[name]
    (recorded,) = package.config.update.call_args_list
    assert recorded.args[0]["safetyvalve/objective"] == "rpo"
    sent = [call.args[0] for call in package.log.call_args_list]
    for kind, key in (("train", "margin"), ("evaluation", "held_out/margin")):
        tracked = f"{kind.removesuffix('uation')}/{key}"
        assert [(s["train/global_step"], s[tracked]) for s in sent if tracked in s] == [
            (m["step"], m[key]) for m in metrics if m["kind"] == kind
        ]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read(run: Any) -> None:
    with pytest.raises(UsageError, match=r"'trackio', which is not installed.*pip install trackio"):
        run("mine", "trackio", data="does-not-exist.jsonl")
    assert not Path("mine").exists()


def test_names() -> None:
    with pytest.raises(UsageError, match="report_to is 'tensorbord'; accepted: tensorboard, wandb, mlflow, trackio"):
        Reporting(("tensorbord",))
    with pytest.raises(UsageError, match="once"):
        Reporting(("wandb", "wandb"))
    with pytest.raises(UsageError, match="lang is 'fr'"):
        Reporting(lang="fr")
