"""The verdict record: round trip, what it refuses, what a verdict is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from safetyvalve.stats import Verdict, append_verdicts

BASE: dict[str, Any] = {
    "item_id": "i1", "prompt_id": "p1", "model_a": "x", "model_b": "y",
    "verdict": "a", "rater": "r", "rater_kind": "human",
}  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    full = Verdict.model_validate(
        BASE
        | {"position": "b_first", "repeat": 1, "length_a": 10, "length_b": 0, "time": "2026-01-02T03:04:05+09:00"}
        | {"seconds": 1.5, "strength": 3, "tags": ("clear", "短い"), "gold": True, "inclusion_probability": 0.25}
    )
    file = tmp_path / "verdicts.jsonl"
    assert append_verdicts(file, [full]) == 1
    assert append_verdicts(file, [Verdict(**BASE)]) == 1
    lines = file.read_text().splitlines()
    assert [Verdict.model_validate_json(line) for line in lines] == [full, Verdict(**BASE)]
    assert "position" not in lines[1]


@pytest.mark.parametrize(("verdict", "score"), [("a", 1), ("b", 0), ("tie", 0.5), ("both_bad", 0.5), ("none", None)])
def test_score(verdict: str, score: float | None) -> None:
    assert Verdict.model_validate(BASE | {"verdict": verdict}).score == score


@pytest.mark.parametrize(
    "change",
    [
        {"model_b": "x"},
        {"verdict": "left"},
        {"rater": ""},
        {"length_a": -1},
        {"seconds": float("nan")},
        {"time": "2026-01-02T03:04:05"},
        {"inclusion_probability": 0},
        {"winner": "x"},
    ],
)
def test_refusals(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change)).split("_")[0]):
        Verdict.model_validate(BASE | change)
