"""Hours that people spent judging, and minutes that corrections took, from exports of the labelling app."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safetyvalve.errors import DataError, shorten
from safetyvalve.stats import Interval, clustered_mean

__all__ = ["Judging", "read_judging"]


class Judging(NamedTuple):
    """What the timers of the app say, over all votes and corrections: gold, repeats and late ones are work too."""

    hours: float
    people: int
    votes: int
    corrections: int
    untimed: int
    """Votes and corrections without a time (no script ran); charged at the mean of their kind."""
    answers: int
    """Answers that people had before them in judgments that are not practice: two a judgment."""
    corrected: int
    """Of these, how many were corrected."""
    edit_minutes: Interval | None
    """Active minutes of a correction with all its revisions, clustered by person; None without timed corrections."""


def read_judging(exports: Sequence[str | Path]) -> Judging:
    """Add up exports of `safetyvalve annotate export` (folders, or their archive.jsonl).

    Raises:
        DataError: no export, one that was changed after it was written, two of the same votes, or no timed vote at all.
    """
    votes: dict[str, dict[str, Any]] = {}
    corrections: dict[str, dict[str, Any]] = {}
    practice: set[str] = set()
    people: set[tuple[str, str]] = set()
    for export in exports:
        file = _archive(Path(export))
        for number, row in _rows(file):
            kept = {"vote": votes, "correction": corrections}.get(str(row.get("table")))
            if row.get("table") == "assignment" and row.get("kind") == "practice":
                practice.add(str(row.get("id")))
            if kept is None:
                continue
            name = str(row.get("id"))
            if name in kept:
                raise DataError(
                    f"{row['table']} {name} was read already: two exports of one database. Give its newest one only.",
                    file=file,
                    row=number,
                )
            kept[name] = row
            people.add((str(file), str(row.get("annotator_id"))))
    if not votes:
        raise DataError("has no votes; nobody judged yet. Export again when people have.", file=exports[0])
    hours, untimed = 0.0, 0
    for rows in (votes, corrections):
        times = [row["active_ms"] for row in rows.values() if row.get("active_ms") is not None]
        if rows and not times and rows is votes:
            raise DataError(
                f"has {len(rows)} votes and no active time of any, as where scripts were off. Say evaluation_hours.",
                file=exports[0],
            )
        missing = len(rows) - len(times)
        untimed += missing
        hours += (sum(times) + missing * (sum(times) / len(times) if times else 0.0)) / 3_600_000
    counted = {v["assignment_id"] for v in votes.values() if v["assignment_id"] not in practice}
    minutes = _minutes(corrections.values())
    return Judging(
        hours,
        len(people),
        len(votes),
        len(corrections),
        untimed,
        2 * len(counted),
        len({(c["assignment_id"], c["answer"]) for c in corrections.values() if c["assignment_id"] in counted}),
        minutes,
    )


def _minutes(corrections: Any) -> Interval | None:
    total: dict[tuple[str, str], list[float | None]] = {}
    person: dict[tuple[str, str], str] = {}
    for row in corrections:
        key = (str(row["assignment_id"]), str(row["answer"]))
        total.setdefault(key, []).append(row.get("active_ms"))
        person[key] = str(row["annotator_id"])
    timed = {k: sum(float(x or 0) for x in v) / 60_000 for k, v in total.items() if None not in v}
    if not timed:
        return None
    found = clustered_mean(list(timed.values()), [person[k] for k in timed])
    if not np.isfinite(found.standard_error):  # one person: corrections are then the units
        found = clustered_mean(list(timed.values()), list(timed))
    return found


def _archive(path: Path) -> Path:
    file = path / "archive.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            "is no export of the labelling app; a folder of `safetyvalve annotate export`, with its archive.jsonl, is "
            "accepted. Export again.",
            file=path,
        )
    manifest = file.with_name("manifest.json")
    if manifest.is_file():
        try:
            expected = json.loads(manifest.read_text(encoding="utf-8"))["sha256"][file.name]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"is no manifest of an export ({error}). Export again.", file=manifest) from None
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise DataError("is not what its manifest says (SHA-256 differs). Export again.", file=file)
    return file


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"is no JSON ({error}). Export again.", file=file, row=number) from None
        if not isinstance(row, dict) or "table" not in row:
            raise DataError(
                f"is {shorten(row)}; rows of archive.jsonl name their table. Give the folder of the export.",
                file=file,
                row=number,
            )
        yield number, row
