"""A whole run on a tiny model: what stands in its folder, and that it can be repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from safetyvalve.errors import DataError, ModelError, RunError, UsageError
from safetyvalve.training import (
    DataSource,
    FineTuning,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    RunFolder,
    RunSettings,
    run_training,
)
from safetyvalve.training.choosing import engine_of
from tests.tiny import random_tree, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("own_cache")


def settings(model: str, data: Path, **changes: Any) -> RunSettings:
    values: dict[str, Any] = {
        "name": "tiny",
        "source": DataSource(data, held_out=8),
        "model": ModelSource(model),
        "objective": Objective("rpo", beta=0.1, eta=0.2),
        "optimization": Optimization(steps=4, prompts_per_step=4, learning_rate=1e-3, precision="fp32"),
        "observation": Observation(every=2, held_out_examples=8, prompts=3, samples_per_prompt=2, max_new_tokens=5),
    }
    return RunSettings(**(values | changes))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [m for m in lines(run / "metrics.jsonl") if m["kind"] == "evaluation"]


def lengths(prompts: list[str], answers: list[str]) -> list[float]:
    assert all(p.startswith("Question") for p in prompts)
    return [float(len(a)) for a in answers]


def test_folder(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = run_training(settings(model_folder, data_file, scorer="lengths"), output, scorer=lengths)
    assert result.engine.engine == "tree"
    metrics = lines(output / "metrics.jsonl")
    assert [m["step"] for m in metrics if m["kind"] == "train"] == [1, 2, 3, 4]
    measured = [m for m in metrics if m["kind"] == "evaluation"]
    assert [m["step"] for m in measured] == [0, 2, 4]
    assert measured[0]["held_out/chosen_displacement"] == pytest.approx(0, abs=1e-4)
    assert measured[0]["samples/kl"] == 0
    assert measured[-1]["samples/kl"] > 0
    assert measured[-1]["held_out/preference_loss"] < measured[0]["held_out/preference_loss"]
    samples = lines(output / "samples" / "step-000004.jsonl")
    assert len(samples) == 6
    assert all(s["independent_score"] == len(s["response"]) for s in samples)
    by_prompt = [sum(s["independent_score"] for s in samples[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert measured[-1]["samples/independent_score"] == pytest.approx(sum(by_prompt) / 3)
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert (config["objective"], config["eta"], config["steps"]) == ("rpo", 0.2, 4)
    assert json.loads((output / "data_report.json").read_text())["kept"] == 24
    environment = json.loads((output / "environment.json").read_text())
    assert len(environment["model_sha256"]) == 64
    assert json.loads((output / "settings.json").read_text())["engine"]["engine"] == "tree"
    assert "`held_out/preference_loss`" in (output / "model" / "README.md").read_text()
    saved = AutoModelForCausalLM.from_pretrained(output / "model")
    assert not torch.equal(saved.lm_head.weight, tiny_model().lm_head.weight)


def test_repeatable(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    """Same settings, same numbers; another seed, another order."""
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        optimization = Optimization(steps=4, prompts_per_step=4, learning_rate=1e-3, precision="fp32", seed=seed)
        run_training(settings(model_folder, data_file, optimization=optimization), tmp_path / name)
        runs.append([m["loss"] for m in lines(tmp_path / name / "metrics.jsonl") if m["kind"] == "train"])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_observing_does_not_change_training(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    """Evaluations draw from a generator of their own."""
    losses = []
    for name, every in (("often", 1), ("rarely", 4)):
        observation = Observation(every=every, held_out_examples=8, prompts=3, samples_per_prompt=2, max_new_tokens=5)
        run_training(settings(model_folder, data_file, observation=observation), tmp_path / name)
        losses.append([m["loss"] for m in lines(tmp_path / name / "metrics.jsonl") if m["kind"] == "train"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("objective", ["dpo", "ipo", "sft"])
def test_other_objectives_and_bf16(objective: str, model_folder: str, data_file: Path, tmp_path: Path) -> None:
    chosen = settings(
        model_folder,
        data_file,
        objective=Objective(objective),
        optimization=Optimization(steps=2, prompts_per_step=4, precision="bf16"),
        observation=Observation(every=2, prompts=0),
    )
    run_training(chosen, tmp_path / "run")
    assert evaluations(tmp_path / "run")[0]["held_out/chosen_displacement"] == pytest.approx(0, abs=1e-3)
    assert not (tmp_path / "run" / "samples").exists()


def test_padded_engine_and_the_fall_back_to_it(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    optimization = Optimization(steps=2, prompts_per_step=4, precision="fp32", engine="padded")
    result = run_training(settings(model_folder, data_file, optimization=optimization), tmp_path / "asked")
    assert result.engine == ("padded", "asked for")
    torch.manual_seed(0)
    other = BloomForCausalLM(BloomConfig(vocab_size=260, hidden_size=32, n_layer=2, n_head=4))
    other.save_pretrained(tmp_path / "bloom")
    tiny_tokenizer().save_pretrained(tmp_path / "bloom")
    result = run_training(settings(str(tmp_path / "bloom"), data_file), tmp_path / "fallen-back")
    assert result.engine.engine == "padded"
    assert evaluations(tmp_path / "fallen-back")[-1]["samples/kl"] > 0


def test_only_what_the_steps_reach_gets_a_reference(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    run_training(settings(model_folder, data_file, source=DataSource(data_file, held_out=2)), tmp_path / "run")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["seed"] == 0
    (entry,) = (tmp_path / "cache" / "reference").iterdir()
    assert load_file(entry)["sums"].numel() == 2 * (4 * 4 + 2)  # 16 of the 22 examples, and 2 held out


def test_fewer_examples_than_a_step_needs(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are 2 examples to train on, fewer than the 4 of one step"):
        run_training(settings(model_folder, data_file, source=DataSource(data_file, held_out=22)), tmp_path / "run")


def test_a_folder_with_another_run_is_left_alone(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (output / "config.yaml").write_text("name: mine\n")
    with pytest.raises(RunError, match="holds another run; nothing was changed"):
        run_training(settings(model_folder, data_file), output)
    assert [p.name for p in output.iterdir()] == ["config.yaml"]


def test_bad_data_leaves_no_folder(model_folder: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        run_training(settings(model_folder, tmp_path / "nothing.jsonl"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("scores", "fragment"),
    [
        ([1.0], "gave 1 scores for 6 answers"),
        ([float("nan")] * 6, "no finite score for any of the first 6"),
        (["good"] * 6, "must give a number"),
        (None, "must give a number"),
    ],
)
def test_scorers_that_are_refused(
    model_folder: str, data_file: Path, tmp_path: Path, scores: Any, fragment: str
) -> None:
    with pytest.raises(UsageError, match=fragment):
        run_training(settings(model_folder, data_file), tmp_path / "run", scorer=lambda prompts, answers: scores)


def test_a_scorer_may_give_an_array(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    chosen = settings(model_folder, data_file, optimization=Optimization(steps=1, prompts_per_step=4, precision="fp32"))
    run_training(chosen, tmp_path / "run", scorer=lambda prompts, answers: torch.ones(len(answers)))
    assert evaluations(tmp_path / "run")[-1]["samples/independent_score"] == 1


@pytest.mark.parametrize(
    ("group", "change", "fragment"),
    [
        (Optimization, {"steps": 0}, "steps is 0"),
        (Optimization, {"learning_rate": -1e-5}, "learning_rate is -1e-05"),
        (Optimization, {"precision": "fp8"}, "precision is 'fp8'; accepted: auto, bf16, fp32"),
        (Optimization, {"schedule": "step"}, "schedule is 'step'"),
        (Optimization, {"warmup_share": 2}, "warmup_share is 2"),
        (Optimization, {"weight_decay": float("nan")}, "weight_decay is nan"),
        (Optimization, {"seed": 2**33}, "seed is"),
        (Observation, {"every": 0}, "every is 0"),
        (Observation, {"prompts": -1}, "prompts is -1"),
    ],
)
def test_bad_settings(group: Any, change: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        group(**change)


def test_adapters_have_their_own_learning_rate(data_file: Path) -> None:
    source = DataSource(data_file)
    assert RunSettings("a", source).optimization.learning_rate == 2e-5
    for kind in ("lora", "qlora"):
        adapted = RunSettings("a", source, fine_tuning=FineTuning(kind))
        assert adapted.optimization.learning_rate == adapted.flat()["learning_rate"] == 2e-4
    given = RunSettings("a", source, fine_tuning=FineTuning("lora"), optimization=Optimization(learning_rate=1e-4))
    assert given.optimization.learning_rate == 1e-4


def test_settings_are_flat_and_complete(data_file: Path) -> None:
    flat = settings("m", data_file).flat()
    assert all(isinstance(v, str | int | float | bool | list | None) for v in flat.values())
    assert {
        "name",
        "model",
        "data",
        "objective",
        "beta",
        "eta",
        "reduction",
        "steps",
        "seed",
        "eval_every",
    } <= flat.keys()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"model": ModelSource("no/such/folder")}, ModelError),
        ({"fine_tuning": FineTuning("lora", lora_targets="nose_proj")}, UsageError),
        ({"source": {"max_length": 5}}, DataError),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_refused_run_leaves_its_name_free(
    model_folder: str, data_file: Path, tmp_path: Path, change: dict[str, Any], kind: type[Exception], there: bool
) -> None:
    if "source" in change:
        change = {"source": DataSource(data_file, **change["source"])}
    output = tmp_path / "run"
    if there:
        output.mkdir()
    with pytest.raises(kind):
        run_training(replace(settings(model_folder, data_file), **change), output)
    assert output.exists() == there
    assert not there or not list(output.iterdir())


def test_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="is not an empty folder"):
        RunFolder(tmp_path / "run")


def test_what_was_found_does_not_excuse_an_unknown_engine() -> None:
    with pytest.raises(UsageError, match="engine is 'fast'"):
        engine_of(tiny_model(), [random_tree(3, 2)], Optimization(engine="fast"), "equal")
    assert engine_of(tiny_model(), [random_tree(3, 2)], Optimization(engine="tree"), "equal").reason == "equal"
    assert engine_of(tiny_model(), [random_tree(3, 2)], Optimization(engine="padded"), "equal").engine == "padded"
