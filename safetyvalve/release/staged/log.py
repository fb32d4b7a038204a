"""The release's log: a chain of hashes in one file that is whole at every moment, whatever is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.errors import ReleaseDamagedError, ReleaseError, shorten
from safetyvalve.hashing import GENESIS, Head, canonical, digest

__all__ = ["Event", "append_event", "check_head", "parse_head", "read_log", "write_whole"]

TOLERANCE_MS = 2_000
"""Clocks that are set by the network step back by less."""


class Event(NamedTuple):
    """One line of ``log.jsonl``."""

    seq: int
    at: int
    """Milliseconds since 1970."""
    kind: str
    by: str
    """Account under which the command ran."""
    payload: Mapping[str, Any]
    previous: str
    hash: str


def read_log(file: Path) -> list[Event]:
    """All events, each held against its hash, its number and the one before.

    Raises:
        ReleaseDamagedError: a line that is missing, changed or no event.
    """
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise ReleaseDamagedError(f"'{file}' is missing; a release has a log from its start. Restore it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseDamagedError(f"'{file}' cannot be read ({error}). Restore it from a copy.") from None
    lines = text.split("\n")
    if lines.pop():
        raise ReleaseDamagedError(f"'{file}' ends in half a line, which is never written. Restore it from a copy.")
    events: list[Event] = []
    previous = GENESIS
    for number, line in enumerate(lines, 1):
        event = _event(line, file, number)
        if event.seq != number or event.previous != previous:
            raise ReleaseDamagedError(
                f"{file}:{number}: event {event.seq} does not follow event {number - 1}: a line was removed, added or "
                "moved. Restore the log from a copy."
            )
        if event.hash != _hash(event):
            raise ReleaseDamagedError(
                f"{file}:{number}: event {event.seq} was changed: its hash is not that of its content. Restore the log "
                "from a copy."
            )
        events.append(event)
        previous = event.hash
    return events


def _event(line: str, file: Path, number: int) -> Event:
    try:
        row = json.loads(line)
        if not (isinstance(row["seq"], int) and isinstance(row["at"], int) and isinstance(row["payload"], dict)):
            raise TypeError
        return Event(**row)
    except (ValueError, TypeError, KeyError):
        raise ReleaseDamagedError(
            f"{file}:{number}: {shorten(line)} is no event. Restore the log from a copy."
        ) from None


def _hash(event: Event) -> str:
    return digest([event.seq, event.at, event.kind, event.by, event.payload, event.previous])


def append_event(file: Path, events: list[Event], kind: str, by: str, payload: Mapping[str, Any], *, at: int) -> Event:
    """Add an event to the list and to the file, on disk when this returns. Call it under the release's lock.

    The file is written anew and put in place of the old one, so that a reader, or a kill, meets the old log or the new.

    Raises:
        ReleaseError: the clock stands before the last event.
    """
    last = events[-1] if events else None
    if last is not None and at < last.at - TOLERANCE_MS:
        raise ReleaseError(
            f"the clock goes backwards: now is {at} ms, and event {last.seq} was written at {last.at} ms. Set this "
            "machine's clock, then repeat the command; nothing was changed."
        )
    at = at if last is None else max(at, last.at)
    # Through JSON once, so that what is hashed is what will be read: tuples become lists.
    plain = json.loads(canonical(dict(payload)))
    event = Event(len(events) + 1, at, kind, by, plain, last.hash if last else GENESIS, "")
    event = event._replace(hash=_hash(event))
    events.append(event)
    write_whole(file, "".join(canonical(e._asdict()) + "\n" for e in events))
    return event


def write_whole(file: Path, text: str) -> None:
    """A file that appears whole: written beside, forced to the disk, renamed, and the folder forced to the disk."""
    partial = file.with_name(file.name + ".tmp")
    with partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def parse_head(text: str) -> Head:
    """``NUMBER:HASH`` as it is printed.

    Raises:
        ReleaseError: it is written otherwise.
    """
    seq, _, value = text.partition(":")
    if not seq.isdecimal() or len(value) != 64:
        raise ReleaseError(f"the head is '{shorten(text)}'; NUMBER:HASH is accepted, as a report prints it.")
    return Head(int(seq), value)


def check_head(events: list[Event], head: Head) -> None:
    """Hold the log against a head that was kept elsewhere; without one a log rewritten as a whole goes unseen.

    Raises:
        ReleaseDamagedError: the log ends before it, or has another event there.
    """
    if head.seq == 0:
        return
    if head.seq > len(events):
        raise ReleaseDamagedError(
            f"the log ends at event {len(events)}, before the kept head {head.seq}: events were removed. Restore the "
            "log from a copy."
        )
    if events[head.seq - 1].hash != head.hash:
        raise ReleaseDamagedError(
            f"event {head.seq} is not the one whose hash was kept: the log was rewritten. Restore it from a copy."
        )
