"""Whole runs on a tiny model with each baseline, and SFT as a first stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError, RunError, UsageError
from safetyvalve.report import build_report, read_run
from safetyvalve.training import Baseline, DataSource, Objective, Observation, Optimization, RunSettings, run_training
from tests.training.test_run import evaluations, lines, settings

pytestmark = pytest.mark.usefixtures("own_cache")


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


@pytest.fixture
def sft_file(tmp_path: Path) -> Path:
    """Prompts of the data (held-out ones among them) and others."""
    rows = [{"prompt": f"Question {i}?", "completion": f"Gold {i}."} for i in range(0, 24, 2)]
    rows += [{"prompt": f"Other {i}?", "completion": f"Gold {j}."} for i in range(12) for j in range(1 + i % 2)]
    return write(tmp_path / "sft.jsonl", rows)


def with_baseline(model: str, data: Path, baseline: Baseline, **changes: Any) -> RunSettings:
    return settings(model, data, baseline=baseline, **changes)


def first_train(run: Path) -> dict[str, Any]:
    return next(m for m in lines(run / "metrics.jsonl") if m["kind"] == "train")


def test_all_responses(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_training(with_baseline(model_folder, data_file, Baseline("all-responses")), run)
    measured = evaluations(run)[-1]
    both = (measured["held_out/chosen_displacement"] + measured["held_out/rejected_displacement"]) / 2
    assert measured["held_out/baseline_displacement"] == pytest.approx(both, rel=1e-4)
    record = json.loads((run / "settings.json").read_text())
    assert record["baseline"]["coverage"]["covered"]
    assert "peers" not in record


def test_the_default_measures_the_chosen(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_training(settings(model_folder, data_file), run)
    for m in evaluations(run):
        assert m["held_out/baseline_displacement"] == pytest.approx(m["held_out/chosen_displacement"], abs=1e-4)
    assert json.loads((run / "settings.json").read_text())["baseline"]["kind"] == "chosen"


def test_column(model_folder: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}?", "chosen": f"A {i}.", "rejected": "No.", "gold": f"Gold {i}."} for i in range(24)]
    data, run = write(tmp_path / "data.jsonl", rows), tmp_path / "run"
    column = Baseline("column", baseline_column="gold")
    with pytest.raises(UsageError, match=r"column 'gold': 100.0% of its weight .*--allow-uncovered"):
        run_training(with_baseline(model_folder, data, column), run)
    assert not run.exists()
    allowed = Baseline("column", baseline_column="gold", allow_uncovered=True)
    run_training(with_baseline(model_folder, data, allowed), run)
    coverage = json.loads((run / "settings.json").read_text())["baseline"]["coverage"]
    assert (coverage["uncovered"], coverage["without_comparisons"], coverage["covered"]) == (1.0, 0.0, False)
    measured = evaluations(run)
    assert measured[-1]["held_out/nll_per_token"] < measured[0]["held_out/nll_per_token"]
    assert measured[-1]["held_out/baseline_displacement"] != measured[-1]["held_out/chosen_displacement"]


def test_sft_data(model_folder: str, data_file: Path, sft_file: Path, tmp_path: Path) -> None:
    """Its prompts join the steps; conversations that are held out for measuring are not trained on."""
    run = tmp_path / "run"
    baseline = Baseline("sft-data", sft_data=sft_file, sft_prompts_per_step=3, allow_uncovered=True)
    run_training(with_baseline(model_folder, data_file, baseline), run)
    record = json.loads((run / "settings.json").read_text())["baseline"]
    assert record["sft_prompts"] + record["sft_prompts_held_out"] == 24
    assert record["sft_prompts_held_out"] >= 4
    assert record["sft_prompts_per_step"] == 3
    assert record["coverage"]["uncovered"] == 1.0
    assert 0 < record["coverage"]["without_comparisons"] < 1
    measured = evaluations(run)
    assert measured[-1]["held_out/sft_term"] < measured[0]["held_out/sft_term"]
    assert measured[0]["held_out/sft_grad_norm"] > 0
    (run / "model").rename(tmp_path / "moved")  # as if stopped
    sft_file.write_text(sft_file.read_text().replace("Gold", "Old"))
    with pytest.raises(RunError, match=r"the SFT file of .* has changed"):
        run_training(with_baseline(model_folder, data_file, baseline), run, resume=True)


def test_reference_samples(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    """Refused after a first look; drawn once, kept with the run, and used again when it goes on."""
    seen = Baseline("reference-samples", baseline_samples=2, baseline_max_tokens=6)
    with pytest.raises(UsageError, match=r"reference-samples: 100.0% of its weight"):
        run_training(with_baseline(model_folder, data_file, seen), tmp_path / "refused")
    assert not (tmp_path / "refused" / "baseline_samples.jsonl").exists()
    allowed = Baseline("reference-samples", baseline_samples=2, baseline_max_tokens=6, allow_uncovered=True)
    chosen, run = with_baseline(model_folder, data_file, allowed), tmp_path / "run"
    run_training(chosen, run)
    kept = lines(run / "baseline_samples.jsonl")
    assert len(kept) == 24
    assert all(len(r["answers"]) == 2 and len(a["token_ids"]) <= 6 for r in kept for a in r["answers"])
    before = first_train(run)
    # As if stopped at once, with other samples in the folder: they are what the SFT term is about.
    (run / "model").rename(tmp_path / "moved")
    for record in kept:
        record["answers"] = [{"token_ids": [5], "text": "&", "finished": False}]
    write(run / "baseline_samples.jsonl", kept)
    run_training(chosen, run, resume=True)
    assert first_train(run)["preference_loss"] == before["preference_loss"]
    assert first_train(run)["sft_term"] < before["sft_term"] / 2


class TestSft:
    def sft(self, model: str, data: Path, **changes: Any) -> RunSettings:
        return settings(model, data, objective=Objective("sft"), **changes)

    def test_on_prompts_and_responses(self, model_folder: str, sft_file: Path, tmp_path: Path) -> None:
        """NLL falls, everything about comparisons is absent, and the report reads."""
        run = tmp_path / "run"
        run_training(self.sft(model_folder, sft_file), run)
        measured = evaluations(run)
        assert measured[-1]["held_out/nll_per_token"] < measured[0]["held_out/nll_per_token"]
        assert measured[0]["held_out/sft_grad_norm"] > 0
        names = {n for m in lines(run / "metrics.jsonl") for n in m}
        absent = ("margin", "accuracy", "preference", "chosen", "rejected", "implicit_reward")
        assert not [n for n in names if any(word in n for word in absent)]
        assert not [n for s in lines(run / "samples" / "step-000004.jsonl") for n in s if "reward" in n]
        record = json.loads((run / "settings.json").read_text())
        assert record["baseline"]["coverage"] is None
        assert record["mean_baseline_length"] > 0
        for lang, words in (("en", "negative log-likelihood went from"), ("ja", "負の対数尤度は")):
            page = build_report([read_run(run)], lang)
            assert "<svg" in page
            assert words in page

    def test_prompts_count_alike(self, model_folder: str, sft_file: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        run_training(self.sft(model_folder, sft_file), run)
        report = json.loads((run / "data_report.json").read_text())
        assert (report["rows"], report["kept"], report["comparisons"]) == (30, 30, 0)

    def test_on_comparisons(self, model_folder: str, data_file: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        run_training(self.sft(model_folder, data_file), run)
        measured = evaluations(run)[-1]
        assert measured["held_out/preference_loss"] == 0
        assert measured["held_out/chosen_displacement"] > 0
        assert measured["held_out/nll_per_token"] > 0

    def test_the_next_stage_starts_from_it(self, model_folder: str, sft_file: Path, tmp_path: Path) -> None:
        run_training(self.sft(model_folder, sft_file), tmp_path / "sft")
        data = write(tmp_path / "d.jsonl", [{"prompt": f"P{i}", "chosen": f"c{i}", "rejected": "r"} for i in range(16)])
        run_training(
            settings(str(tmp_path / "sft" / "model"), data, source=DataSource(data, held_out=4)), tmp_path / "rpo"
        )
        assert evaluations(tmp_path / "rpo")[-1]["held_out/margin"] != 0

    def test_other_objectives_say_what_to_do(self, model_folder: str, sft_file: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no comparisons; the objective 'rpo' .* --objective sft"):
            run_training(settings(model_folder, sft_file), tmp_path / "run")
        with pytest.raises(UsageError, match="Leave --baseline out"):
            run_training(self.sft(model_folder, sft_file, baseline=Baseline("all-responses")), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_nothing_held_out_of_the_sft_file(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    """One prompt, trained on: its term is not measured on held-out data, and the run goes through."""
    sft = write(tmp_path / "one.jsonl", [{"prompt": "Alone?", "response": "Yes."}])
    baseline = Baseline("sft-data", sft_data=sft, allow_uncovered=True)
    changes = {
        "optimization": Optimization(steps=1, prompts_per_step=4, precision="fp32"),
        "observation": Observation(every=1, prompts=0),
    }
    run_training(with_baseline(model_folder, data_file, baseline, **changes), tmp_path / "run")
    assert "held_out/sft_term" not in evaluations(tmp_path / "run")[-1]
    assert first_train(tmp_path / "run")["sft_term"] > 0
