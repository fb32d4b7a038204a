"""Alarms on the page: what was raised first, what was not watched, and the loss that a moving eta leaves comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.report import build_report, read_run
from safetyvalve.report.alarms import alarm_advice, alarm_rows
from safetyvalve.report.evidence import evidence_of
from safetyvalve.report.text import LANGUAGES, Text
from tests.report.runs import make_run, write_lines


def said(name: str, step: int, raised: bool, value: float) -> dict[str, Any]:
    limit = {"displacement": -0.1, "proxy-gap": 4.6}.get(name, 1.25)
    return {"name": name, "step": step, "raised": raised, "value": value, "bound": 0.0, "limit": limit, "since": 0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run", "watched", [0.5, 1.0, 1.2, 0.9, 0.6])
    rows = [
        said("displacement", 10, False, -0.05),
        said("displacement", 20, True, -0.3),
        said("displacement", 30, True, -0.7),
        said("length", 30, False, 1.1),
    ]
    write_lines(folder / "alarms.jsonl", rows)
    return folder


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_first_raise_is_shown(run: Path, tmp_path: Path, lang: str) -> None:
    records = [read_run(run), read_run(make_run(tmp_path / "old", "before there were alarms", None))]
    text = Text(lang)
    rows = {row.name: row.cells for row in alarm_rows(records, text)}
    assert len(rows) == 5
    first, other = rows[text("alarm.displacement")]
    assert first == text("alarm.raised", step=20, figure=text("alarm.figure", value="−0.300", limit="−0.100"))
    assert other == text("alarm.silent")
    assert rows[text("alarm.length")][0] == text(
        "alarm.quiet", step=30, figure=text("alarm.figure", value="1.100", limit="1.250")
    )
    assert rows[text("alarm.proxy-gap")][0] == text("alarm.silent")
    assert alarm_advice(records, text) == [text("advice.displacement")]
    page = build_report(records, lang)
    assert text("alarms.title") in page and text("advice.length") not in page
    assert alarm_rows(records[1:], text) == []


def test_half_a_line_is_said_and_left_out(run: Path) -> None:
    with (run / "alarms.jsonl").open("a") as stream:
        stream.write('{"name": "len')
    record = read_run(run)
    assert len(record.alarms) == 4 and "alarms.jsonl" in record.cut


def test_where_eta_moves_the_preference_loss_is_judged(tmp_path: Path) -> None:
    """The whole loss rises with eta while the comparisons are learned: still overoptimized, not merely worse."""
    course, status = [0.5, 1.0, 1.2, 0.9, 0.6], []
    for name, config in (("fixed", {}), ("moving", {"max_displacement": 0.05})):
        folder = make_run(tmp_path / name, name, course, config=config)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            if row["kind"] == "train":
                row |= {"preference_loss": row["loss"], "loss": 10 - row["loss"]}
        write_lines(folder / "metrics.jsonl", rows)
        status.append(evidence_of(read_run(folder)).status)
    assert status == ["worse", "overoptimized"]
