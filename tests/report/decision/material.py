"""A candidate's run with everything that a decision is taken on, made in code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetyvalve.release.kpi_record import Kpi, Kpis
from safetyvalve.release.staged.decision import approve, decide
from safetyvalve.release.staged.folder import open_release
from tests.release.staged.material import good, release, take_in
from tests.report.runs import make_run

GOOD = [0.5, 0.8, 1.0, 1.1, 1.2]
OVER = [0.5, 1.0, 1.2, 0.9, 0.6]


def run(folder: Path, course: Sequence[float] | None = GOOD, name: str = "new", **options: Any) -> Path:
    return make_run(folder, name, course, **options)


def staged(
    folder: Path, *, approved: bool = False, rows: Sequence[dict[str, Any]] | None = None, **changes: Any
) -> Path:
    """A release in shadow whose gates pass, unless other rows are given."""
    made = release(folder, **changes)
    take_in(made, good() if rows is None else rows)
    if approved:
        with open_release(made) as opened:
            approve(opened, "b.tanaka", "looked at all gates and at forty answers")
    return made


def decided(folder: Path) -> str:
    with open_release(folder) as opened:
        return decide(opened).outcome


def kpis(
    low: float = 0.55, value: float | None = 0.6, high: float = 0.65, *, candidate: str = "new", baseline: str = "old"
) -> Kpis:
    """Key figures with people's win rate, a share that is missing, and the reward score last."""
    rate = Kpi(key="human_win_rate", better="higher", missing="get.human_win_rate")
    if value is not None:
        rate = Kpi(
            key="human_win_rate", value=value, low=low, high=high, better="higher", n=200, unit="prompts",
            source="verdicts",
        )  # fmt: skip
    reward = Kpi(key="reward", value=1.6, better="says nothing alone", source="run", sufficient=False)
    return Kpis(
        safetyvalve="0", candidate=candidate, baseline=baseline, confidence=0.95,
        figures=[rate, Kpi(key="complaints", better="lower", missing="get.complaints"), reward], cautions=[],
        files=["verdicts.jsonl"],
    )  # fmt: skip


def plan(file: Path, **changes: Any) -> Path:
    value = {
        "format": "safetyvalve-plan/1",
        "data": {"sha256": "ab" * 32},
        "evaluation": {
            "chosen": True, "plans": [{"win_rate": 0.6, "judgments": 168, "hours": 2.8, "people": 1}], "hours": 2.8,
        },
        "costs": {"total": 8400.0, "rates": {"currency": "JPY"}},
        "curve": {"more_helps": None},
    } | changes  # fmt: skip
    file.write_text(json.dumps(value), encoding="utf-8")
    return file
