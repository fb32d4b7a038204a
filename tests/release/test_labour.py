"""Hours and minutes from lines as an export has them; tests/annotate reads a real one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError
from safetyvalve.release.labour import read_judging


def vote(number: int, active_ms: int | None, person: int = 1) -> dict[str, Any]:
    return {
        "table": "vote", "id": f"v{number}", "assignment_id": f"a{number}", "annotator_id": person,
        "active_ms": active_ms,
    }  # fmt: skip


def correction(number: int, active_ms: int | None, person: int = 1, revision: int = 0) -> dict[str, Any]:
    return vote(number, active_ms, person) | {"table": "correction", "id": f"c{number}.{revision}", "answer": "a"}


def export(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    (folder / "archive.jsonl").write_bytes(data)
    digest = {"sha256": {"archive.jsonl": hashlib.sha256(data).hexdigest()}}
    (folder / "manifest.json").write_text(json.dumps(digest))
    return folder


def test_all_work_counts_and_revisions_add_up(tmp_path: Path) -> None:
    rows = [
        {"table": "assignment", "id": "a1", "kind": "practice"},
        *(vote(i, 60_000, person=i % 2) for i in (1, 2, 3)),
        vote(4, None),
        correction(2, 120_000),
        correction(2, 60_000, revision=1),
        correction(3, 300_000, person=2),
        {"table": "event", "seq": 1},
    ]
    found = read_judging([export(tmp_path / "one", rows)])
    assert found.hours == pytest.approx((4 * 60 + 120 + 60 + 300) / 3600)
    assert (found.people, found.votes, found.corrections, found.untimed) == (3, 4, 3, 1)
    assert (found.answers, found.corrected) == (6, 2)  # practice is work and no judgment
    assert found.edit_minutes is not None and found.edit_minutes.estimate == 4


def test_several_exports(tmp_path: Path) -> None:
    one, two = export(tmp_path / "one", [vote(1, 60_000)]), export(tmp_path / "two", [vote(2, 60_000)])
    assert read_judging([one, two / "archive.jsonl"]).hours == pytest.approx(2 / 60)
    assert read_judging([one]).edit_minutes is None
    with pytest.raises(DataError, match=r"archive\.jsonl:1: vote v1 was read already"):
        read_judging([one, one])


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no export of the labelling app"):
        read_judging([tmp_path])
    with pytest.raises(DataError, match="nobody judged yet"):
        read_judging([export(tmp_path / "none", [{"table": "event"}])])
    with pytest.raises(DataError, match="Say evaluation_hours"):
        read_judging([export(tmp_path / "untimed", [vote(1, None)])])
    with pytest.raises(DataError, match=r"archive\.jsonl:1: is \{'a': 1\}; rows of archive\.jsonl name their table"):
        read_judging([export(tmp_path / "other", [{"a": 1}])])
    changed = export(tmp_path / "changed", [vote(1, 60_000)])
    (changed / "archive.jsonl").write_text(json.dumps(vote(1, 30_000)) + "\n")
    with pytest.raises(DataError, match="SHA-256 differs"):
        read_judging([changed])
