"""Runs whose course of scores is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from safetyvalve.data import (
    Encoded,
    Place,
    Reading,
    ServingPrompt,
    examine,
    load_preferences,
    prompt_coverage,
    tokenize_examples,
)
from safetyvalve.report import RunRecord, read_run
from tests.report.runs import make_run
from tests.tiny import tiny_tokenizer

COURSES: dict[str, tuple[list[float] | None, list[float]]] = {
    "over": ([0.5, 1.0, 1.2, 0.9, 0.6], [0.0, 0.4, 0.9, 1.3, 1.6]),
    "good": ([0.5, 0.8, 1.0, 1.1, 1.2], [0.0, 0.2, 0.4, 0.5, 0.6]),
    "alike": ([0.5, 0.8, 1.0, 1.1, 1.2], [0.0, 0.2, 0.4, 0.5, 0.6]),
    "flat": ([0.5, 0.5, 0.5, 0.5, 0.5], [0.0, 0.1, 0.2, 0.3, 0.4]),
    "bad": ([0.5, 0.4, 0.3, 0.2, 0.1], [0.0, 0.0, -0.1, -0.2, -0.3]),
    "unscored": (None, [0.0, 0.4, 0.9, 1.3, 1.6]),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by the name of their course; nothing may write to them."""
    base = tmp_path_factory.mktemp("runs")
    return {
        name: make_run(base / f"{name}-folder", name, course, gains=gains) for name, (course, gains) in COURSES.items()
    }


@pytest.fixture(scope="session")
def runs(folders: dict[str, Path]) -> dict[str, RunRecord]:
    return {name: read_run(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data report has every part, and hostile texts in it."""
    base = tmp_path_factory.mktemp("checked")
    rows = [{"prompt": f"質問{i}", "chosen": f"はい{i}", "rejected": "いいえ"} for i in range(9)]
    rows[4]["chosen"] *= 20
    rows.append({"prompt": "質問0", "chosen": "いいえ", "rejected": "はい0"})
    rows.append({"prompt": "<script>alert(5)</script>", "chosen": "x" * 90, "rejected": "a@example.com"})
    file = base / "<b>data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_preferences(file)
    tokenizer = tiny_tokenizer()
    done = tokenize_examples(loaded.examples, tokenizer, max_length=100, on_long="truncate")
    report = examine(loaded, Reading("tiny", tokenizer, 100, "truncate", done))
    served = [ServingPrompt(e.prompt, Place("serve.txt", i)) for i, e in enumerate(loaded.examples[7:], 1)]
    coverage = prompt_coverage(served, loaded.examples[:8], _Encoder())
    folder = make_run(base / "r", "checked", [0.5, 0.6], gains=[0, 1], steps=[0, 40], prompts=7)
    report = report.model_copy(update={"coverage": coverage})
    (folder / "data_report.json").write_text(report.model_dump_json())
    return folder


class _Encoder:
    name, latin_only = "lengths", True

    def __call__(self, texts: Sequence[str]) -> Encoded:
        angles = np.array([len(text) / 20 + i / 100 for i, text in enumerate(texts)])
        return Encoded(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), 0.5, 0)
