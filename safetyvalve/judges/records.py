"""Judgments to verdict records, to counts, and to the files of a run."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.judges.protocol import Choice, Failure, Judge, Opinion
from safetyvalve.judges.run import Judgment
from safetyvalve.stats.verdicts import Position, Verdict, VerdictValue, append_verdicts

__all__ = ["DISAGREE", "SAME_TEXT", "Written", "append_line", "save_verdicts", "verdicts_of"]

DISAGREE = "orders disagree"
"""Tag of both records of an item on which the orders gave different verdicts; it counts as a tie."""
SAME_TEXT = "same text"
"""Tag of an item whose answers are equal, which no judge was asked about."""

_SIDES: dict[Position, dict[Choice, VerdictValue]] = {
    "a_first": {"first": "a", "second": "b"},
    "b_first": {"first": "b", "second": "a"},
}


def verdicts_of(judgment: Judgment, judge: Judge, name: str) -> list[Verdict]:
    """One record an order, with the raw verdict of that order; one where order cannot matter.

    Args:
        judgment: of a pair.
        judge: who gave it.
        name: of the rater, as resolved.
    """
    pair = judgment.pair
    common: dict[str, Any] = {
        "item_id": pair.id,
        "prompt_id": pair.prompt_id,
        "model_a": pair.model_a,
        "model_b": pair.model_b,
        "rater": name,
        "rater_kind": judge.kind,
        "length_a": len(pair.answers[0]),
        "length_b": len(pair.answers[1]),
        "inclusion_probability": pair.inclusion_probability,
    }
    if not judgment.opinions:
        empty = not any(text.strip() for text in pair.answers)
        return [Verdict(**common, verdict="both_bad" if empty else "tie", tags=(SAME_TEXT,))]
    values = {order: _value(opinion, order) for order, opinion in judgment.opinions.items()}
    disagree = (DISAGREE,) if len(set(values.values())) > 1 and "none" not in values.values() else ()
    records = []
    for repeat, (order, opinion) in enumerate(judgment.opinions.items()):
        seen = None if isinstance(opinion, Failure) else opinion
        cause = opinion.reason.partition(":")[0] if isinstance(opinion, Failure) else opinion.cause
        records.append(
            Verdict(
                **common,
                verdict=values[order],
                position=order if judge.both_orders else None,
                repeat=repeat,
                tags=(cause,) if cause else disagree,
                time=seen.time if seen else None,
                seconds=seen.seconds if seen else None,
            )
        )
    return records


def _value(opinion: Opinion | Failure, order: Position) -> VerdictValue:
    if isinstance(opinion, Failure):
        return "none"
    choice = opinion.choice
    if choice == "first" or choice == "second":
        return _SIDES[order][choice]
    return choice


class Written(NamedTuple):
    added: int
    present: int
    """Equal records that the file had already."""


def save_verdicts(file: Path, verdicts: Iterable[Verdict]) -> Written:
    """Append records that the file lacks; several raters may share it, and writing again adds nothing.

    Raises:
        DataError: the file has a line that is no verdict record, or another verdict of the same rater on the same item.
        UsageError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            return _append(file, stream.read(), list(verdicts))
    except OSError as error:
        raise UsageError(f"'{file}' cannot be written ({error.strerror}). Name another --output.") from None


def _append(file: Path, raw: bytes, verdicts: list[Verdict]) -> Written:
    whole, _, rest = raw.rpartition(b"\n")
    # Of a line of ours that a killed process could not finish; the time is another when it is written again.
    begun = rest.partition(b',"time"')[0]
    if rest and not rest.endswith(b"}") and any(v.line().encode().startswith(begun) for v in verdicts):
        os.truncate(file, len(raw) - len(rest))
        rest = b""
    lines = whole.split(b"\n") if whole else []
    present: dict[tuple[object, ...], Verdict] = {}
    for number, line in enumerate([*lines, *([rest] if rest else [])], start=1):
        if line.strip():
            known = _parsed(file, number, line)
            present[_key(known)] = known
    new = []
    for verdict in verdicts:
        known_one = present.get(_key(verdict))
        if known_one is None:
            new.append(verdict)
        elif _untimed(known_one) != _untimed(verdict):
            raise DataError(
                f"'{file}' has another verdict of {shorten(verdict.rater)} on item {verdict.item_id} "
                f"({known_one.verdict}, now {verdict.verdict}), given under other settings. Nothing was added; "
                "name another --output."
            )
    if rest:
        with file.open("ab") as stream:
            stream.write(b"\n")
    append_verdicts(file, new)
    return Written(len(new), len(verdicts) - len(new))


def _key(verdict: Verdict) -> tuple[object, ...]:
    return verdict.item_id, verdict.rater, verdict.repeat


def _untimed(verdict: Verdict) -> Verdict:
    """Judges that are not cached give the same verdict again at another time."""
    return verdict.model_copy(update={"time": None, "seconds": None})


def _parsed(file: Path, number: int, line: bytes) -> Verdict:
    try:
        return Verdict.model_validate_json(line)
    except ValidationError as error:
        raise DataError(
            f"is no verdict record ({error.errors()[0]['msg']}): {shorten(line.decode(errors='replace'))}. Nothing "
            "was added; name another --output, or mend the line.",
            file=file,
            row=number,
        ) from None


def append_line(file: Path, record: Mapping[str, Any]) -> None:
    """One line of JSON, on disk when this returns."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(dict(record), ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
