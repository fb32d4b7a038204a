"""The event log: a chain of hashes, so that whoever keeps a head can tell later whether history was rewritten.

Events hold digests of votes and corrections, not their content. A row can then be erased at a person's wish and the
chain still verifies; the erasure is an event itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from safetyvalve.annotate.models import Assignment, Base, Correction, Event, Item, Report, Vote
from safetyvalve.hashing import GENESIS, Head, canonical, digest

__all__ = [
    "RECORDED",
    "append",
    "append_row",
    "head",
    "milliseconds",
    "outcome_of",
    "record_of",
    "verify",
]

RECORDED: dict[str, tuple[type[Base], tuple[str, ...]]] = {
    "item": (Item, ("taken", "withdrawn")),
    "vote": (Vote, ()),
    "correction": (Correction, ()),
    "report": (Report, ("resolved",)),
}
"""Kinds of event that vouch for a row: its table, and the columns that may change later; ``withdrawn`` and
``resolved`` only by an event, ``taken`` is a count."""


def milliseconds() -> int:
    """Now, since 1970."""
    return time.time_ns() // 1_000_000


def record_of(row: Base) -> dict[str, Any]:
    """A row as a dictionary, less the columns that may change."""
    left_out = next(columns for table, columns in RECORDED.values() if isinstance(row, table))
    return {c.key: getattr(row, c.key) for c in row.__table__.columns if c.key not in left_out}


def outcome_of(assignment: Assignment) -> list[Any]:
    """What a vote or report made of an assignment: its state, and whether it counts towards the overlap."""
    return [assignment.state, assignment.slot is not None]


class _Vouched:
    """What the events say that the tables hold."""

    def __init__(self) -> None:
        self.digests: dict[str, dict[str, str]] = {kind: {} for kind in RECORDED}
        self.outcomes: dict[str, list[Any]] = {}
        self.withdrawn: set[str] = set()
        self.resolved: dict[str, str] = {}

    def follow(self, event: Event) -> None:
        try:
            self._follow(event.kind, json.loads(event.payload))
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a changed payload is reported by its hash

    def _follow(self, kind: str, payload: dict[str, Any]) -> None:
        if kind in self.digests:
            self.digests[kind][payload["id"]] = payload["digest"]
        if kind in ("vote", "report"):
            self.outcomes[payload["assignment"]] = payload["outcome"]
        elif kind == "resolved":
            self.resolved[payload["report"]] = payload["decision"]
            if payload["decision"] == "withdrawn":
                self.withdrawn.add(payload["item"])
        elif kind == "withdraw":
            self.withdrawn.add(payload["item"])
        elif kind == "restore":
            self.withdrawn.discard(payload["item"])
        elif kind == "erased":
            gone: dict[str, dict[str, Any]] = {**self.digests, "assignment": self.outcomes}
            for name, ids in payload["rows"].items():
                for row in ids:
                    gone[name].pop(row, None)


_LAST = select(Event.seq, Event.hash).order_by(Event.seq.desc()).limit(1)


def head(session: Session) -> Head:
    row = session.execute(_LAST).first()
    return Head(row.seq, row.hash) if row else Head(0, GENESIS)


def append(session: Session, kind: str, actor: str, payload: Mapping[str, Any], *, at: int) -> None:
    """Add an event. Call it in a write transaction: one writer at a time is what keeps the chain a chain."""
    last: Head = session.info.get("head") or head(session)
    text = canonical(payload)
    new = Head(last.seq + 1, _hash(last.seq + 1, at, actor, kind, text, last.hash))
    session.add(Event(seq=new.seq, at=at, actor=actor, kind=kind, payload=text, previous=last.hash, hash=new.hash))
    session.info["head"] = new  # a session is one transaction, and nobody else writes during it


def append_row(session: Session, kind: str, actor: str, row: Base, **more: Any) -> None:
    """Add a row of one of the :data:`RECORDED` tables and the event that vouches for it."""
    session.add(row)
    record = record_of(row)
    append(session, kind, actor, {"id": record["id"], "digest": digest(record), **more}, at=record["created_at"])


def _hash(seq: int, at: int, actor: str, kind: str, payload: str, previous: str) -> str:
    return digest([seq, at, actor, kind, payload, previous])


def verify(session: Session, exported: Head | None = None) -> list[str]:
    """What is wrong with the log and the rows it vouches for; empty if nothing is.

    Args:
        exported: a head kept elsewhere. Without one, a log that was rewritten as a whole cannot be told.
    """
    problems: list[str] = []
    vouched = _Vouched()
    previous, expected, at_exported = GENESIS, 1, GENESIS if exported and exported.seq == 0 else None
    for event in session.scalars(select(Event).order_by(Event.seq)).yield_per(1000):
        if event.seq != expected:
            problems.append(f"event {expected} is missing")
        if event.previous != previous:
            problems.append(f"event {event.seq} does not follow the event before it")
        if event.hash != _hash(event.seq, event.at, event.actor, event.kind, event.payload, event.previous):
            problems.append(f"event {event.seq} was changed: its hash is not that of its content")
        if exported and event.seq == exported.seq:
            at_exported = event.hash
        previous, expected = event.hash, event.seq + 1
        vouched.follow(event)
    if exported and at_exported is None:
        problems.append(f"the log ends at event {expected - 1}, before the exported head {exported.seq}")
    elif exported and at_exported != exported.hash:
        problems.append(f"event {exported.seq} is not the one that was exported: the log was rewritten")
    problems += [p for kind in RECORDED for p in _compare(session, kind, vouched.digests[kind])]
    return problems + _compare_decisions(session, vouched)


def _compare(session: Session, kind: str, digests: dict[str, str]) -> list[str]:
    problems = []
    table = RECORDED[kind][0]
    for row in session.scalars(select(table).execution_options(yield_per=500)):
        record = record_of(row)
        expected = digests.pop(record["id"], None)
        if expected is None:
            problems.append(f"{kind} {record['id']} was added without an event")
        elif expected != digest(record):
            problems.append(f"{kind} {record['id']} was changed after it was stored")
    return problems + [f"{kind} {row} was removed without an event" for row in digests]


def _compare_decisions(session: Session, vouched: _Vouched) -> list[str]:
    """Whether a vote counts, an item is withdrawn, a report is dealt with: what changes results without a vote."""
    problems = []
    found = {a.id: outcome_of(a) for a in session.scalars(select(Assignment))}
    for key, outcome in vouched.outcomes.items():
        if key not in found:
            problems.append(f"assignment {key} was removed without an event")
        elif found[key] != outcome:
            problems.append(f"assignment {key} was changed: it is {found[key]}, and the log says {outcome}")
    withdrawn = set(session.scalars(select(Item.id).where(Item.withdrawn)))
    problems += [f"item {key} was withdrawn without an event" for key in sorted(withdrawn - vouched.withdrawn)]
    problems += [f"item {key} was restored without an event" for key in sorted(vouched.withdrawn - withdrawn)]
    for report in session.scalars(select(Report)):
        if report.resolved != vouched.resolved.get(report.id):
            problems.append(f"report {report.id} was resolved or reopened without an event")
    return problems
