"""A small release and observations for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from safetyvalve.release.staged.folder import create_release, open_release
from safetyvalve.release.staged.recording import Recorded, record

SETTINGS: dict[str, Any] = {
    "name": "assistant-2",
    "candidate": "new",
    "control": "old",
    "trainers": ["a.sato"],
    "stages": [
        {"name": "shadow", "share": 0.0},
        {"name": "pilot", "share": 0.1},
        {"name": "full", "share": 1.0},
    ],
    "guardrails": [
        {
            "metric": "human_win_rate", "kind": "bounded", "range": [0, 1], "compare": "level", "level": 0.5,
            "better": "higher", "margin": 0.1, "evidence": "people",
        },
        {"metric": "harm", "kind": "binary", "better": "lower", "margin": 0.1, "rollback_at": 0.0},
    ],
}  # fmt: skip
START = datetime(2026, 1, 5, tzinfo=UTC)


def release(folder: Path, **changes: Any) -> Path:
    """A release's folder with :data:`SETTINGS`."""
    create_release(folder, yaml.safe_dump(SETTINGS | changes, sort_keys=False))
    return folder


def rows(
    metric: str,
    values: Sequence[float],
    *,
    variant: str = "candidate",
    stage: str | None = "shadow",
    source: str | None = None,
    prefix: str = "u",
    start: datetime = START,
) -> list[dict[str, Any]]:
    """One observation an hour."""
    made = []
    for i, value in enumerate(values):
        row: dict[str, Any] = {
            "time": (start + timedelta(hours=i)).isoformat(),
            "variant": variant,
            "metric": metric,
            "value": value,
            "unit": f"{prefix}{i}",
        }
        made.append(row | ({"stage": stage} if stage else {}) | ({"source": source} if source else {}))
    return made


def write(file: Path, given: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return file


def take_in(folder: Path, given: Iterable[dict[str, Any]], *, name: str = "rows.jsonl", **options: Any) -> Recorded:
    """Record rows in a release."""
    file = write(folder.parent / name, given)
    with open_release(folder) as opened:
        return record(opened, file, **options)


def good(stage: str = "shadow", n: int = 400, start: datetime = START, source: str = "human") -> list[dict[str, Any]]:
    """People like the candidate (60%), and neither model does harm."""
    wins = [1, 1, 1, 0, 0] * (n // 5)
    control = "old" if stage == "shadow" else "control"
    other = "u" if stage == "shadow" else "c"
    return [
        *rows("human_win_rate", wins, stage=stage, source=source, prefix="p", start=start),
        *rows("harm", [0] * n, stage=stage, start=start),
        *rows("harm", [0] * n, stage=stage, variant=control, prefix=other, start=start),
    ]
