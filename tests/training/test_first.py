"""What is measured before the first step is kept between runs, under all that it depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from safetyvalve.models import load_model
from safetyvalve.training import (
    FineTuning,
    Objective,
    Observation,
    Optimization,
    RunSettings,
    dry_run,
    run_training,
)
from safetyvalve.training import estimate as estimate_module
from safetyvalve.training.first import FirstMeasures
from safetyvalve.training.forward import Forward
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.sampling import SampleMeter
from tests.tiny import tiny_model, tiny_tokenizer
from tests.training.test_run import evaluations, lengths, lines, settings

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured and drawn, and not taken from disk."""
    calls: list[str] = []

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(self: Any, policy: Any) -> Any:
            calls.append(name)
            return method(self, policy)

        return counted

    monkeypatch.setattr(HeldOutMeter, "measure", counting("measure", HeldOutMeter.measure))
    monkeypatch.setattr(SampleMeter, "draw", counting("draw", SampleMeter.draw))
    return calls


def observed(**changes: int) -> Observation:
    return replace(Observation(2, held_out_examples=8, prompts=3, samples_per_prompt=2, max_new_tokens=5), **changes)


def of_step_0(calls: list[str]) -> list[str]:
    """Without those after steps 2 and 4."""
    return calls[:-4]


def test_another_run_takes_it_and_trains_alike(
    model_folder: str, data_file: Path, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(settings(model_folder, data_file), tmp_path / "first")
    assert of_step_0(measured) == ["measure", "draw"]
    measured.clear()
    run_training(settings(model_folder, data_file), tmp_path / "second")
    assert of_step_0(measured) == []
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "empty"))
    run_training(settings(model_folder, data_file), tmp_path / "third")
    timing = {"seconds", "resident_gib", "tokens_per_second"}
    first, *others = (
        [{k: v for k, v in m.items() if k not in timing} for m in lines(tmp_path / name / "metrics.jsonl")]
        for name in ("first", "second", "third")
    )
    assert others == [first, first]
    for file in ("step-000000.jsonl", "step-000004.jsonl"):
        answers, *others = ((tmp_path / n / "samples" / file).read_text() for n in ("first", "second", "third"))
        assert others == [answers, answers]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"objective": Objective("rpo", beta=0.1, eta=0.3)}, ["measure"]),
        ({"optimization": Optimization(steps=4, prompts_per_step=4, precision="fp32", seed=1)}, ["draw"]),
        ({"optimization": Optimization(steps=4, prompts_per_step=4, precision="bf16")}, ["measure", "draw"]),
        ({"fine_tuning": FineTuning("lora")}, ["measure", "draw"]),
        ({"observation": observed(held_out_examples=6)}, ["measure"]),
        ({"observation": observed(max_new_tokens=4)}, ["draw"]),
    ],
)
def test_what_it_depends_on(
    change: dict[str, Any], again: list[str], model_folder: str, data_file: Path, tmp_path: Path, measured: list[str]
) -> None:
    run_training(settings(model_folder, data_file), tmp_path / "first")
    measured.clear()
    run_training(settings(model_folder, data_file, **change), tmp_path / "second")
    assert of_step_0(measured) == again


def test_other_weights(model_folder: str, data_file: Path, tmp_path: Path, measured: list[str]) -> None:
    run_training(settings(model_folder, data_file), tmp_path / "first")
    measured.clear()
    tiny_model(seed=1).save_pretrained(model_folder)
    run_training(settings(model_folder, data_file), tmp_path / "second")
    assert of_step_0(measured) == ["measure", "draw"]


def test_scores_are_asked_for_again(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    scored = settings(model_folder, data_file, scorer="lengths")
    run_training(scored, tmp_path / "first", scorer=lengths)
    run_training(scored, tmp_path / "second", scorer=lambda prompts, answers: [0.5] * len(answers))
    assert evaluations(tmp_path / "first")[0]["samples/independent_score"] > 1
    assert evaluations(tmp_path / "second")[0]["samples/independent_score"] == 0.5


def test_damaged_entries(model_folder: str, data_file: Path, tmp_path: Path, measured: list[str]) -> None:
    run_training(settings(model_folder, data_file), tmp_path / "first")
    for entry in (tmp_path / "cache" / "first").iterdir():
        entry.write_text(entry.read_text()[:-3])
    measured.clear()
    run_training(settings(model_folder, data_file), tmp_path / "second")
    assert of_step_0(measured) == ["measure", "draw"]
    assert evaluations(tmp_path / "second")[0]["samples/kl"] == 0


def test_the_dry_run_knows(model_folder: str, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three evaluations, each 1 s of held-out examples and 10 s of samples; the first only as far as it is not kept."""
    monkeypatch.setattr(estimate_module, "_whole_evaluation", lambda *_, **__: (1.0, 10.0))

    def told(s: RunSettings) -> float:
        return dry_run(s).estimate.seconds["evaluations"]

    ours = settings(model_folder, data_file)
    assert told(ours) == pytest.approx(33)
    assert not (tmp_path / "cache" / "first").exists()
    run_training(ours, tmp_path / "run")
    assert told(ours) == pytest.approx(22)
    assert told(replace(ours, objective=Objective("dpo"))) == pytest.approx(23)


def test_nothing_is_kept_for_code_that_came_with_a_model(model_folder: str, tmp_path: Path) -> None:
    class Own(LlamaForCausalLM):
        pass

    model, tokenizer = load_model(model_folder)
    first = FirstMeasures(tmp_path / "kept", "weights")
    assert first.of(model, tokenizer, FineTuning(), Forward(), seed=0).folder == tmp_path / "kept"
    assert first.of(Own(model.config), tiny_tokenizer(), FineTuning(), Forward(), seed=0).folder is None
