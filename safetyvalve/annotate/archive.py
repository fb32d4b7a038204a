"""The whole record as lines, and back: what an export holds can be imported into an empty database, event log and all.

Sign-ins, invites and the database's secret stay behind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from safetyvalve.annotate.events import verify
from safetyvalve.annotate.models import (
    Annotator,
    Assignment,
    Base,
    Batch,
    Correction,
    Event,
    Item,
    Report,
    Scan,
    Setting,
    Vote,
)
from safetyvalve.errors import DataError
from safetyvalve.hashing import Head

__all__ = ["archive_lines", "import_archive"]

_TABLES: tuple[type[Base], ...] = (Batch, Scan, Item, Annotator, Assignment, Vote, Correction, Report, Event)
_SETTINGS: tuple[type[Base], ...] = (Setting,)


def archive_lines(session: Session) -> Iterator[dict[str, Any]]:
    """One object a row, in an order in which they can be stored again."""
    for setting in session.scalars(
        select(Setting).where(Setting.key.not_in(("secret", "schema"))).order_by(Setting.key)
    ):
        yield {"table": "setting", "key": setting.key, "value": setting.value}
    for table in _TABLES:
        for row in session.scalars(select(table).order_by(*inspect(table).primary_key)):
            yield {"table": table.__tablename__} | {c.key: getattr(row, c.key) for c in table.__table__.columns}


def import_archive(session: Session, folder: Path) -> dict[str, int]:
    """Fill an empty database from an export; returns the number of rows by table.

    Raises:
        DataError: the export is incomplete or was changed, or the database is not empty.
    """
    manifest_file, file = folder / "manifest.json", folder / "archive.jsonl"
    try:
        manifest, raw = json.loads(manifest_file.read_text(encoding="utf-8")), file.read_bytes()
        expected, exported_head = manifest["sha256"]["archive.jsonl"], str(manifest["event_log_head"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"is no export ({error}); a folder with manifest.json and archive.jsonl is accepted.", file=folder
        ) from None
    if hashlib.sha256(raw).hexdigest() != expected:
        raise DataError("is not what its manifest says (SHA-256 differs). Export again.", file=file)
    if session.scalar(select(func.count()).select_from(Item)) or session.scalar(
        select(func.count()).select_from(Event)
    ):
        raise DataError("needs an empty database; name a new one with --db.", file=file)
    tables: dict[str, type[Base]] = {table.__tablename__: table for table in [*_TABLES, *_SETTINGS]}
    counts: dict[str, int] = {}
    number = 0
    try:
        for number, line in enumerate(raw.decode().split("\n")[:-1], start=1):
            row = json.loads(line)
            name = row.pop("table")
            if name not in counts or number % 500 == 0:
                session.flush()  # the rows of the table before, which this one refers to
            session.add(tables[name](**row))
            counts[name] = counts.get(name, 0) + 1
        session.flush()
    except (ValueError, KeyError, TypeError, SQLAlchemyError) as error:
        raise DataError(f"cannot be stored ({str(error).splitlines()[0]}).", file=file, row=number) from None
    _number_on(session)
    seq, _, value = exported_head.partition(":")
    if problems := verify(session, Head(int(seq), value)):
        raise DataError(f"does not verify: {problems[0]} ({len(problems)} problems).", file=file)
    return counts


def _number_on(session: Session) -> None:
    """PostgreSQL's counters do not see numbers that were given."""
    if session.get_bind().dialect.name == "postgresql":
        for name in ("batch", "scan", "annotator"):
            session.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "
                    f"(SELECT coalesce(max(id), 0) + 1 FROM {name}), false)"
                )
            )
