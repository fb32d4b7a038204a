"""A release's folder: settings, log, evidence and the file that says the share of traffic.

release.yaml    stages, guardrails, margins; fixed by the first observation
log.jsonl       chain of events
evidence/       observations, one file a `record`, named in the log with their SHA-256
traffic.json    stage and share that now hold; replaced as a whole
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.account import account
from safetyvalve.errors import ReleaseDamagedError, ReleaseError
from safetyvalve.hashing import GENESIS, Head, canonical, digest
from safetyvalve.release.staged.log import Event, append_event, check_head, parse_head, read_log, write_whole
from safetyvalve.release.staged.observations import Observation, from_line
from safetyvalve.release.staged.settings import Settings, Stage, parse_settings, read_settings

__all__ = ["Position", "Release", "create_release", "milliseconds", "open_release", "read_release"]


def milliseconds() -> int:
    """Now, since 1970."""
    return time.time_ns() // 1_000_000


class Position(NamedTuple):
    """Where a release stands."""

    number: int
    """Of its stage, from 0."""
    since: int
    """When the stage began, in milliseconds since 1970."""
    seq: int
    """The event that began it."""
    rolled_back: bool

    @property
    def word(self) -> str:
        return "rolled back" if self.rolled_back else "running"


class Release:
    """A release, held against its log as it is opened.

    Args:
        path: folder.

    Raises:
        ReleaseError: there is no release.
        ReleaseDamagedError: log, settings or evidence are not what was written.
        UsageError: the settings cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        settings = read_settings(path / "release.yaml")
        self.events = read_log(path / "log.jsonl")
        if not self.events or self.events[0].kind != "init":
            raise ReleaseDamagedError(f"the log in '{path}' does not begin with the release's start. Restore it.")
        self.settings: Settings = settings
        self._check_settings()
        self._check_traffic()

    # -- reading

    @property
    def head(self) -> Head:
        return Head(self.events[-1].seq, self.events[-1].hash) if self.events else Head(0, GENESIS)

    @property
    def position(self) -> Position:
        first = self.events[0]
        found = Position(0, first.at, first.seq, False)
        for event in self.events:
            if event.kind == "promotion":
                found = Position(found.number + 1, event.at, event.seq, False)
            elif event.kind == "rollback":
                found = found._replace(rolled_back=True)
        return found

    @property
    def stage(self) -> Stage:
        return self.settings.stages[self.position.number]

    @property
    def share(self) -> float:
        """Share of the traffic that the candidate may get."""
        return 0.0 if self.position.rolled_back else self.stage.share

    def of_kind(self, kind: str) -> list[Event]:
        return [e for e in self.events if e.kind == kind]

    @cached_property
    def observations(self) -> list[Observation]:
        """All that was recorded, each file held against its SHA-256 in the log."""
        rows: list[Observation] = []
        for event in self.of_kind("record"):
            rows += self._evidence(event)
        return rows

    def _evidence(self, event: Event) -> list[Observation]:
        file = self.path / event.payload["file"]
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise ReleaseDamagedError(
                f"evidence '{file}' cannot be read ({error.strerror}), and event {event.seq} names it. Restore it from "
                "a copy; until then nothing is decided and approvals do not count."
            ) from None
        if hashlib.sha256(raw).hexdigest() != event.payload["sha256"]:
            raise ReleaseDamagedError(
                f"evidence '{file}' was changed after event {event.seq} recorded it (SHA-256 differs). Restore it from "
                "a copy; until then nothing is decided and approvals do not count."
            )
        return [from_line(json.loads(line)) for line in raw.decode().split("\n")[:-1]]

    def evidence_hash(self) -> str:
        """What an approval speaks of: settings, stage and every file of evidence so far."""
        files = [e.payload["sha256"] for e in self.of_kind("record")]
        return digest([self.settings.digest, self.stage.name, self.position.seq, files])

    def verify(self, head: Head | None = None) -> None:
        """Hold everything against the log, and the log against a head kept elsewhere.

        Raises:
            ReleaseDamagedError: something is not what was written.
        """
        for event in self.of_kind("record"):
            self._evidence(event)
        if head is not None:
            check_head(self.events, head)

    def _check_settings(self) -> None:
        fixed = self.of_kind("settings")
        if fixed and fixed[-1].payload["digest"] != self.settings.digest:
            raise ReleaseDamagedError(
                f"'{self.path / 'release.yaml'}' was changed after event {fixed[-1].seq} fixed it: margins that follow "
                "the data prove nothing. Restore it (log.jsonl holds what it was), or start a new release."
            )

    def _check_traffic(self) -> None:
        file = self.path / "traffic.json"
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            head = parse_head(value["log_head"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, ReleaseError):
            raise ReleaseDamagedError(
                f"'{file}' is not what was written. Remove it; the next command makes it."
            ) from None
        check_head(self.events, head)

    # -- writing, under the lock of open_release

    def append(self, kind: str, payload: Mapping[str, Any]) -> Event:
        return append_event(self.path / "log.jsonl", self.events, kind, account(), payload, at=milliseconds())

    def fix_settings(self) -> None:
        """From the first observation on, settings stay what they are."""
        if not self.of_kind("settings"):
            plain = self.settings.model_dump(mode="json")
            self.append("settings", {"digest": self.settings.digest, "settings": plain})

    def add_evidence(self, rows: list[Observation], about: Mapping[str, Any]) -> Event:
        """Store rows as a file and name it in the log."""
        text = "".join(canonical(row._asdict()) + "\n" for row in rows)
        sha = hashlib.sha256(text.encode()).hexdigest()
        name = f"evidence/{len(self.events) + 1:06d}-{sha[:12]}.jsonl"
        (self.path / "evidence").mkdir(exist_ok=True)
        write_whole(self.path / name, text)
        event = self.append("record", {"file": name, "sha256": sha, "rows": len(rows), **about})
        self.__dict__.pop("observations", None)
        return event

    def write_traffic(self) -> None:
        """Say the share of traffic, for whatever routes it."""
        value = {
            "release": self.settings.name,
            "candidate": self.settings.candidate,
            "control": self.settings.control,
            "state": self.position.word,
            "stage": self.stage.name,
            "share": self.share,
            "log_head": str(self.head),
        }
        text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
        file = self.path / "traffic.json"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_whole(file, text)


def read_release(path: Path) -> Release:
    """A release to look at. Safe beside a writer: files are replaced as wholes."""
    return Release(path)


@contextmanager
def open_release(path: Path) -> Iterator[Release]:
    """A release to write to; others wait until it is closed. On leaving, ``traffic.json`` says what the log says."""
    if not path.is_dir():
        raise ReleaseError(f"'{path}' is no folder; a release is one. Make it with `safetyvalve release init`.")
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        release = Release(path)
        try:
            yield release
        finally:
            release.write_traffic()
    finally:
        os.close(handle)


def create_release(path: Path, text: str) -> Release:
    """Make a release's folder with a ``release.yaml``.

    Raises:
        ReleaseError: the folder holds something, or cannot be made.
        UsageError: the text is no valid settings.
    """
    import yaml

    parse_settings(yaml.safe_load(text), "release.yaml")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ReleaseError(f"'{path}' is not an empty folder; nothing was changed. Name a new one.")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReleaseError(f"'{path}' cannot be made ({error.strerror}). Name another folder.") from None
    write_whole(path / "release.yaml", text)
    append_event(path / "log.jsonl", [], "init", account(), {}, at=milliseconds())
    release = Release(path)
    release.write_traffic()
    return release
