"""The real file: multi-turn human preferences (skipped where it is absent)."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyvalve.data import load_preferences, opening_turn, split_by_opening

FILE = Path(__file__).parents[3] / "shared" / "data" / "hh-harmless-test.jsonl.gz"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the real preference data is not here")


def test_kept_and_dropped() -> None:
    report = load_preferences(FILE).report
    assert (report.rows, report.kept, report.form) == (2312, 2303, "hh-transcript")
    assert {reason: [d.row for d in rows] for reason, rows in report.reasons().items()} == {
        "prompts of chosen and rejected differ": [1255, 1689, 1951, 1953, 2037],
        "chosen response is empty": [87, 517, 926, 1104],
    }


def test_split_keeps_conversations_whole() -> None:
    split = split_by_opening(load_preferences(FILE).examples, held_out=0.1)
    assert {opening_turn(e) for e in split.train}.isdisjoint({opening_turn(e) for e in split.held_out})
