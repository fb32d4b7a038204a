"""Alarms in a run, the choice of a checkpoint, and an early end: what is left, and that a resumed run keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from safetyvalve.errors import UsageError
from safetyvalve.report import build_report, read_run
from safetyvalve.training import (
    Checkpointing,
    Objective,
    Observation,
    Optimization,
    PolicyTrainer,
    RunFolder,
    RunSettings,
    Valve,
    resume_training,
    run_training,
)
from safetyvalve.training.selection import Selection
from tests.tiny import tiny_model
from tests.training.test_run import evaluations, lines, settings

pytestmark = pytest.mark.usefixtures("own_cache")


class Course:
    """Scores that follow a given course over the evaluations, with a spread over answers."""

    def __init__(self, *means: float) -> None:
        self.means, self.calls = means, 0

    def __call__(self, prompts: list[str], answers: list[str]) -> list[float]:
        mean = self.means[min(self.calls, len(self.means) - 1)]
        self.calls += 1
        return [mean + 0.01 * (i % 3) for i in range(len(answers))]


def chosen(model: str, data: Path, **changes: Any) -> RunSettings:
    values: dict[str, Any] = {
        "scorer": "course",
        "objective": Objective("dpo", beta=0.1),
        "optimization": Optimization(steps=6, prompts_per_step=4, learning_rate=1e-3, precision="fp32"),
        "observation": Observation(every=2, held_out_examples=8, prompts=3, samples_per_prompt=2, max_new_tokens=5),
    }
    return settings(model, data, **(values | changes))


def test_alarms_are_recorded(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    run_training(chosen(model_folder, data_file), tmp_path / "run", scorer=Course(1, 2))
    said = lines(tmp_path / "run" / "alarms.jsonl")
    assert {(a["name"], a["step"]) for a in said} == {
        (name, step) for name in ("displacement", "proxy-gap", "length", "repetition") for step in (2, 4, 6)
    }
    last = evaluations(tmp_path / "run")[-1]
    displaced = next(a for a in said if (a["name"], a["step"]) == ("displacement", 6))
    assert displaced["value"] == last["held_out/chosen_displacement_per_token"]
    assert (displaced["n"], last["held_out/compared"]) == (8, 8)
    assert last["held_out/chosen_displacement_per_token_se"] > 0
    assert not (tmp_path / "run" / "stopped.json").exists()


def test_standard_error_by_hand(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    """Of the samples' own implicit form: the jackknife over examples agrees with the linearised error."""
    from safetyvalve.training import Forward, HeldOutMeter
    from tests.training.helpers import examples

    found = examples(tiny_model(seed=0))
    measured = HeldOutMeter(found, Objective("dpo"), Forward(token_budget=60)).measure(tiny_model(seed=1))

    def ratio(some: list[Any]) -> float:
        meter = HeldOutMeter(some, Objective("dpo"), Forward(token_budget=10_000), grad_examples=0)
        return meter.measure(tiny_model(seed=1))["held_out/chosen_displacement_per_token"]

    assert measured["held_out/chosen_displacement_per_token"] == pytest.approx(ratio(found), rel=1e-5)
    n = len(found)
    without = torch.tensor([ratio(found[:i] + found[i + 1 :]) for i in range(n)], dtype=torch.float64)
    jackknife = float((n - 1) * without.var(correction=0)) ** 0.5
    assert measured["held_out/chosen_displacement_per_token_se"] == pytest.approx(jackknife, rel=0.35)
    assert measured["held_out/compared"] == n


def test_best_score_becomes_the_model(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    """Weights of the best evaluation, which are those of a run that ends there; its score again on fresh answers."""
    best, short = tmp_path / "best", tmp_path / "short"
    run_training(chosen(model_folder, data_file, valve=Valve("independent")), best, scorer=Course(1, 2, 5, 3, 4))
    run_training(
        chosen(
            model_folder,
            data_file,
            optimization=Optimization(steps=4, prompts_per_step=4, learning_rate=1e-3, precision="fp32"),
            # 6 x 4 of 16 examples and 4 x 4 of them are drawn alike; warm-up is 1 step of 6 and 0 of 4
            observation=Observation(every=2, held_out_examples=8, prompts=0),
            scorer=None,
        ),
        short,
    )
    selected = json.loads((best / "selection.json").read_text())
    assert selected["step"] == 4 and selected["selected_by"] == pytest.approx(5.01, abs=0.01)
    assert selected["fresh_score"] == pytest.approx(4.01, abs=0.01)  # the fifth call of the scorer
    assert selected["other_prompts"] and selected["fresh_prompts"] == 3
    assert not (best / "selected").exists() and not (best / "checkpoints").exists()
    page = build_report([read_run(best)])
    assert "step 4" in page and "biased upwards" in page


def test_selected_weights_are_those_of_their_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    selection, models = Selection(folder), [tiny_model(seed=s) for s in range(4)]
    for step, (score, model) in enumerate(zip((1.0, 3.0, 3.0, 2.0), models, strict=True)):
        folder.append_metrics({"kind": "evaluation", "step": step, "samples/independent_score": score})
        selection.see(step, {"samples/independent_score": score}, model)
    assert sorted(p.name for p in selection.path.iterdir()) == ["step-000000.safetensors", "step-000001.safetensors"]
    selection.settle()
    policy = tiny_model(seed=9)
    assert Selection(folder).restore(policy) == 1  # of equal scores the first
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), models[1].parameters(), strict=True))


@pytest.mark.parametrize(
    ("valve", "course", "reason"),
    [
        (Valve(stop_on=("displacement",)), (1, 2), "alarm displacement"),
        (Valve("independent", patience=2), (3, 2, 1, 0), "no better independent score for 2 evaluations"),
    ],
)
def test_an_early_end_leaves_a_whole_run(
    valve: Valve,
    course: tuple[float, ...],
    reason: str,
    model_folder: str,
    data_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when the run is stopped and resumed on the way: the same end, the same weights."""
    if valve.stop_on:
        _displaced(monkeypatch)
    given = chosen(model_folder, data_file, valve=valve, checkpointing=Checkpointing(1))
    run_training(given, tmp_path / "whole", scorer=Course(*course))
    stopped = json.loads((tmp_path / "whole" / "stopped.json").read_text())
    assert stopped == {"step": 4, "reason": reason}
    assert [m["step"] for m in evaluations(tmp_path / "whole")] == [0, 2, 4]
    assert (tmp_path / "whole" / "model" / "README.md").exists()
    record = read_run(tmp_path / "whole")
    assert reason in build_report([record]) and "ended" in build_report([record])

    real = PolicyTrainer.training_step

    def stops(self: PolicyTrainer, *args: object, **kwargs: object) -> object:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PolicyTrainer, "training_step", stops)
        run_training(given, tmp_path / "cut", scorer=Course(*course))
    resume_training(tmp_path / "cut", lambda name: Course(*(course[2:] or course[-1:])))
    for name in ("alarms.jsonl", "stopped.json", "selection.json"):
        files = [tmp_path / run / name for run in ("whole", "cut")]
        assert files[0].exists() == files[1].exists()
        assert not files[0].exists() or name == "selection.json" or files[0].read_text() == files[1].read_text()
    ours, theirs = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def _displaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the chosen responses fall by half a nat a token at step 4, and not before."""
    from safetyvalve.training import HeldOutMeter

    real = HeldOutMeter.measure
    seen: dict[str, int] = {}

    def measure(self: HeldOutMeter, policy: Any) -> dict[str, float]:
        values = real(self, policy)
        key = "held_out/chosen_displacement_per_token"
        moved = abs(values[key]) > 1e-6
        seen["moved"] = seen.get("moved", 0) + moved
        fallen = {key: -0.5} if seen["moved"] in (2, 4) else {key: 0.0}
        return values | fallen | {f"{key}_se": 0.001} if moved else values

    monkeypatch.setattr(HeldOutMeter, "measure", measure)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"valve": Valve("independent"), "scorer": None}, "select is 'independent', which needs an independent score"),
        ({"valve": Valve(patience=1), "scorer": None}, "patience is '1', which needs an independent score"),
        ({"valve": Valve(stop_on=("proxy-gap",)), "scorer": None}, "stop_on is 'proxy-gap', which needs"),
        ({"valve": Valve(stop_on=("length",)), "observation": Observation(prompts=0)}, "stop_on is 'length'"),
        ({"valve": Valve(stop_on=("displacement",)), "objective": Objective("sft")}, "learns from them"),
        ({"valve": Valve(stop_on=("uncertainty",))}, r"needs a reward model \(--proxy\)"),
    ],
)
def test_valves_without_what_they_need(changes: dict[str, Any], fragment: str, data_file: Path) -> None:
    with pytest.raises(UsageError, match=fragment):
        settings("m", data_file, **({"scorer": "course"} | changes))


def test_bad_valves() -> None:
    for given, fragment in (
        ({"select": "best"}, "select is 'best'; accepted: last, independent"),
        ({"stop_on": ("smoke",)}, "stop_on is 'smoke'; accepted: displacement, proxy-gap"),
        ({"patience": 0}, "patience is 0"),
    ):
        with pytest.raises(UsageError, match=fragment):
            Valve(**given)  # type: ignore[arg-type]
