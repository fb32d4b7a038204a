"""Observations: one value of one metric on one unit, with its time, read from CSV, JSON lines or verdict files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from safetyvalve.data.sources import open_source
from safetyvalve.errors import DataError, shorten
from safetyvalve.release.staged.settings import Guardrail, Settings

__all__ = ["Observation", "Source", "Variant", "from_line", "read_observations", "stamp"]

Variant = Literal["candidate", "control"]
Source = Literal["people", "judge", "records"]
SOURCES: dict[str, Source] = {
    "human": "people", "people": "people", "judge": "judge", "rubric": "judge", "reward": "judge",
    "records": "records", "log": "records",
}  # fmt: skip
ALIASES = {
    "time": ("time", "timestamp", "date", "日時"),
    "variant": ("variant", "arm", "区分"),
    "metric": ("metric", "指標"),
    "value": ("value", "値"),
    "unit": ("unit", "unit_id", "prompt_id", "ticket_id", "単位"),
    "source": ("source", "rater_kind", "出所"),
    "stage": ("stage", "段階"),
}
REQUIRED = ("time", "variant", "metric", "value", "unit")
AHEAD_MS = 300_000
"""How far clocks of other machines may be ahead."""


class Observation(NamedTuple):
    """A line of a file in ``evidence/``."""

    at: int
    """Milliseconds since 1970: when the value became known."""
    stage: str
    metric: str
    variant: Variant
    unit: str
    """What was drawn or split at random: a prompt, a customer, a ticket."""
    source: Source
    value: float

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        return self.stage, self.metric, self.variant, self.unit, self.source


class Raw(NamedTuple):
    """An observation as a file has it, whose stage may not be said, and where it stands."""

    at: int
    stage: str | None
    metric: str
    variant: Variant
    unit: str
    source: Source
    value: float
    row: int


def from_line(row: Mapping[str, Any]) -> Observation:
    """What :meth:`Observation._asdict` became."""
    return Observation(**row)


def read_observations(file: Path, settings: Settings, *, now: int, offset: str | None = None) -> list[Raw]:
    """Read a file of observations and hold every row against the settings.

    Args:
        file: CSV, TSV, JSON lines or a JSON array, plain or gzipped, in UTF-8 or cp932.
        settings: of the release.
        now: milliseconds since 1970.
        offset: from UTC of times that have none, such as ``+09:00``.

    Raises:
        DataError: with file, row and field: a field that is missing or not accepted, a time in the future, times of one
            metric and variant that go backwards.
    """
    zone = None if offset is None else _zone(offset)
    found = []
    latest: dict[tuple[str, str, str], tuple[int, int]] = {}
    for place, fields in open_source(file).rows:
        raw = _row(fields, settings, zone, file, place.row or 0)
        if raw.at > now + AHEAD_MS:
            raise DataError(
                f"{stamp(raw.at)} is in the future; now is {stamp(now)}. Mend the time, or this machine's clock.",
                file=file,
                row=raw.row,
                field="time",
            )
        before = latest.get((raw.metric, raw.variant, raw.source))
        if before is not None and raw.at < before[0]:
            raise DataError(
                f"{stamp(raw.at)} is before {stamp(before[0])} in row {before[1]}: the clock goes backwards. A row's "
                "time is when its value became known. Mend the clock or the rows, and sort the file by time.",
                file=file,
                row=raw.row,
                field="time",
            )
        latest[raw.metric, raw.variant, raw.source] = (raw.at, raw.row)
        found.append(raw)
    if not found:
        raise DataError("there are no observations; rows with " + ", ".join(REQUIRED) + " are accepted.", file=file)
    return found


def _row(fields: Mapping[str, Any], settings: Settings, zone: timezone | None, file: Path, number: int) -> Raw:
    def refuse(field: str, message: str) -> DataError:
        return DataError(message, file=file, row=number, field=field)

    given: dict[str, Any] = {}
    for name, aliases in ALIASES.items():
        given[name] = next((fields[a] for a in aliases if fields.get(a) not in (None, "")), None)
    for name in REQUIRED:
        if given[name] is None:
            raise refuse(name, f"is missing; {', '.join(ALIASES[name])} are accepted as its column. Fill it in.")
    metric, unit = str(given["metric"]).strip(), str(given["unit"]).strip()
    guardrail = settings.guardrail(metric)
    if guardrail is None and metric != settings.valve.reward:
        known = [g.metric for g in settings.guardrails] + [settings.valve.reward]
        raise refuse(
            "metric", f"is {shorten(metric)}; accepted: {', '.join(known)}. Correct it, or leave such rows out."
        )
    variant = _variant(given["variant"], settings)
    if variant is None:
        raise refuse(
            "variant",
            f"is {shorten(given['variant'])}; candidate, control, {settings.candidate} and {settings.control} are "
            "accepted. Correct it.",
        )
    if variant == "control" and guardrail is not None and guardrail.compare == "level":
        raise refuse("variant", f"is control, and {metric} compares the candidate with a level. Leave the row out.")
    at = _time(given["time"], zone)
    if isinstance(at, str):
        raise refuse("time", at)
    value = _number(given["value"])
    if isinstance(value, str) or (problem := _unfit(value, guardrail)):
        raise refuse("value", value if isinstance(value, str) else problem)
    source = SOURCES.get(str(given["source"] or "records").strip().lower())
    if source is None:
        raise refuse("source", f"is {shorten(given['source'])}; accepted: {', '.join(SOURCES)}. Correct it.")
    if guardrail is not None and guardrail.evidence == "people" and source == "records":
        raise refuse("source", f"is not said, and only people's verdicts count for {metric}. Write human or judge.")
    stage = None if given["stage"] is None else str(given["stage"]).strip()
    return Raw(at, stage, metric, variant, unit, source, value, number)


def _variant(value: object, settings: Settings) -> Variant | None:
    word = str(value).strip()
    names = {settings.candidate: "candidate", settings.control: "control"}
    found = names.get(word) or (word.lower() if word.lower() in ("candidate", "control") else None)
    return cast("Variant | None", found)


def _number(value: object) -> float | str:
    """The number, or what is wrong."""
    words = {"true": 1.0, "false": 0.0}
    try:
        number = float(words.get(str(value).strip().lower(), value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"is {shorten(value)}; a number is accepted. Correct it."
    return number if math.isfinite(number) else f"is {shorten(value)}; a finite number is accepted. Correct it."


def _unfit(value: float, guardrail: Guardrail | None) -> str:
    """What is wrong with a number as a value of a metric; empty if nothing is."""
    if guardrail is None:
        return ""
    if guardrail.kind == "binary" and value not in (0, 1):
        return f"is {value:g}; {guardrail.metric} is binary, and 0 and 1 are accepted. Correct it."
    low, _ = guardrail.limits
    if value < low:
        return f"is {value:g}, below {low:g}, the least that {guardrail.metric} can be. Correct it."
    return ""


def _time(value: object, zone: timezone | None) -> int | str:
    """Milliseconds since 1970, or what is wrong."""
    try:
        moment = datetime.fromisoformat(str(value).strip().replace("/", "-"))
    except ValueError:
        return f"is {shorten(value)}; a time such as 2026-01-31T09:30:00+09:00 is accepted. Correct it."
    if moment.tzinfo is None:
        if zone is None:
            return f"is {shorten(value)}, without an offset from UTC. Write one, or pass --utc-offset +09:00."
        moment = moment.replace(tzinfo=zone)
    return round(moment.timestamp() * 1000)


def _zone(offset: str) -> timezone:
    try:
        found = datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").tzinfo
    except ValueError:
        found = None
    if found is None:
        raise DataError(f"--utc-offset is '{offset}'; an offset such as +09:00 is accepted.")
    return timezone(found.utcoffset(None) or timedelta(0))


def stamp(at: int) -> str:
    """A time as people read it."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
