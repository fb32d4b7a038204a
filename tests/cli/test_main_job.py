"""The main job on the real model, short: quickstart, and real human comparisons (where they are)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from safetyvalve.cli import main
from safetyvalve.models import load_model
from safetyvalve.trees import largest_difference

pytestmark = pytest.mark.slow

HH = Path(__file__).parents[3] / "shared" / "data" / "hh-harmless-test.jsonl.gz"


@pytest.fixture(autouse=True)
def all_cores() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def evaluations(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [r for r in rows if r["kind"] == "evaluation"]


def test_the_real_model_answers_and_is_exact() -> None:
    model, tokenizer = load_model("smollm2-135m")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = tokenizer.decode(model.generate(**ids, max_new_tokens=20, do_sample=False)[0], skip_special_tokens=True)
    assert "Paris" in answer
    from tests.tiny import random_tree

    assert largest_difference(model, [random_tree(60, 40, 25, 1, seed=1)]) < 1e-4


def test_quickstart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "quickstart"
    assert main(["quickstart", "--output", str(output), "--steps", "2"]) == 0
    printed = capsys.readouterr()
    assert str(output / "report.html") in printed.out
    assert "parity margin" in printed.err
    assert "nearest in TRL" in printed.err
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    for name in ("dpo", "rpo"):
        steps = evaluations(output / name)
        assert [e["step"] for e in steps] == [0, 1, 2]
        assert steps[0]["samples/kl"] == 0
        assert steps[-1]["samples/kl"] > 0
        assert -1 < steps[-1]["samples/independent_score"] < 3
    # Same prompts, same reference: both start from the same answers.
    first = [(output / n / "samples" / "step-000000.jsonl").read_text() for n in ("dpo", "rpo")]
    assert first[0] == first[1]
    trained = AutoModelForCausalLM.from_pretrained(output / "rpo" / "model")
    assert AutoTokenizer.from_pretrained(output / "rpo" / "model").chat_template
    assert not torch.equal(trained.model.norm.weight, load_model("smollm2-135m").model.model.norm.weight)


@pytest.mark.skipif(not HH.exists(), reason="the real preference data is not here")
@pytest.mark.parametrize("objective", ["dpo", "rpo"])
def test_real_human_comparisons(tmp_path: Path, objective: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / objective
    options = ["--steps", "2", "--prompts-per-step", "4", "--sample-prompts", "4", "--held-out-examples", "8"]
    assert main(["train", "--data", str(HH), "--objective", objective, "--output", str(run), *options]) == 0
    steps = evaluations(run)
    assert steps[-1]["held_out/chosen_displacement"] != 0
    assert "samples/independent_score" not in steps[-1]
    assert (run / "report.html").exists()
    assert json.loads((run / "data_report.json").read_text())["kept"] == 2303
