"""What the alarms of a report's runs said, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safetyvalve.diagnostics.alarms import ALARMS
from safetyvalve.report.record import RunRecord, number
from safetyvalve.report.tables import Row
from safetyvalve.report.text import Text, fixed, signed

__all__ = ["alarm_advice", "alarm_rows"]

_CHANGES = {"displacement", "proxy-gap", "repetition"}
"""Alarms whose values are changes; the others' are ratios."""


def alarm_rows(records: Sequence[RunRecord], text: Text) -> list[Row]:
    """One row an alarm: when it was first raised, else its last word; no rows where no run recorded any."""
    if not any(r.alarms for r in records):
        return []
    return [Row(text(f"alarm.{name}"), tuple(_cell(r, name, text) for r in records)) for name in ALARMS]


def alarm_advice(records: Sequence[RunRecord], text: Text) -> list[str]:
    """A sentence or two for each alarm that was raised in any run."""
    raised = {a.get("name") for r in records for a in r.alarms if a.get("raised") is True}
    return [text(f"advice.{name}") for name in ALARMS if name in raised]


def _cell(record: RunRecord, name: str, text: Text) -> str:
    said = [a for a in record.alarms if a.get("name") == name]
    if not said:
        return text("alarm.silent")
    raised = next((a for a in said if a.get("raised") is True), None)
    key, shown = ("alarm.raised", raised) if raised else ("alarm.quiet", said[-1])
    return text(key, step=shown.get("step"), figure=_figure(name, shown, text))


def _figure(name: str, said: Mapping[str, Any], text: Text) -> str:
    value, limit = number(said.get("value")), number(said.get("limit"))
    if value is None or limit is None:
        return text("cell.none")
    write = signed if name in _CHANGES else fixed
    if name == "proxy-gap":
        return text("alarm.figure.gap", value=write(value, 2), since=said.get("since"))
    return text("alarm.figure", value=write(value, 3), limit=write(limit, 3))
