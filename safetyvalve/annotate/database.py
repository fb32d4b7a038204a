"""SQLite or PostgreSQL behind two kinds of transaction: readers that run side by side, and one writer at a time.

One writer keeps the hash chain of the event log in line and makes the k-overlap exact without retries. At the rate at
which people judge (50 of them once a second) it is busy a small part of the time.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from safetyvalve.annotate.models import Base, Setting
from safetyvalve.errors import RunError, UsageError

__all__ = ["Busy", "Database", "Turnstile"]

SCHEMA = "1"
_WAIT_MS = 5_000
# As many connections as the server has threads, so that no request waits for one; the one used last first, since it has
# the statements prepared and the tables' descriptions at hand. Those that lay idle for an hour are opened anew: a
# firewall may have dropped them.
_POOL: dict[str, Any] = {
    "pool_size": 40,
    "max_overflow": 0,
    "pool_timeout": 5,
    "pool_use_lifo": True,
    "pool_recycle": 3600,
}
_LOCK = 0x5AFE_7A1E
"""Key of PostgreSQL's advisory lock that writers take."""


class Busy(Exception):  # noqa: N818 - the server answers 503 and the client keeps what it sent
    """The database did not take the transaction; nothing was stored."""


class Turnstile:
    """A lock that lets threads through in the order in which they came; ``threading.Lock`` starves one for seconds."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def enter(self, timeout: float) -> bool:
        """Whether the turn came within ``timeout`` seconds."""
        with self._door:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(timeout):
            return True
        with self._door:
            if mine.is_set():  # the turn came at the last moment
                return True
            self._waiting.remove(mine)
        return False

    def leave(self) -> None:
        """Let the next one through."""
        with self._door:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class Database:
    """A labelling database.

    Args:
        place: a file for SQLite, or a URL: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        create: make the tables where there are none.

    Raises:
        UsageError: a URL of another kind.
        RunError: the database cannot be opened, has no tables, or has those of another version.
    """

    def __init__(self, place: str, *, create: bool = True) -> None:
        self.url = _url(place)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and not create and not Path(self.url.database or "").is_file():
            raise RunError(f"database '{place}' does not exist; name one that `safetyvalve annotate serve` has made.")
        self.engine = _engine(self.url, self.is_sqlite)
        self._glance = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite's own waiting sleeps up to 100 ms at a time; threads of one process queue here instead.
        self._writer = Turnstile()
        try:
            with self.write() as session:
                if create:
                    Base.metadata.create_all(session.connection())
                self._check_schema(session, create)
        except (DBAPIError, Busy) as error:
            reason = str(error.orig).splitlines()[0] if isinstance(error, DBAPIError) else str(error)
            raise RunError(
                f"database '{self.url.render_as_string()}' cannot be used ({reason}). Name another --db, or start its "
                "server."
            ) from None

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing.

        Raises:
            Busy: the database does not answer.
        """
        with _told(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def glance(self) -> Iterator[Session]:
        """As :meth:`read`, for a few short statements: PostgreSQL is not told where they begin and end.

        Each statement sees what is committed when it runs, as it does there in a transaction too. Rows cannot be
        fetched in parts.
        """
        with _told(), Session(self._glance, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """The one transaction that may write now; committed on leaving, rolled back on an exception.

        Raises:
            Busy: another writer held on for five seconds, or the database does not answer.
        """
        if not self._writer.enter(_WAIT_MS / 1000):
            raise Busy("another transaction holds the database")
        try:
            with _told(), Session(self.engine, expire_on_commit=False) as session:
                session.connection(execution_options={"begin": "IMMEDIATE"})
                if not self.is_sqlite:
                    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                yield session
                session.commit()
        finally:
            self._writer.leave()

    def _check_schema(self, session: Session, create: bool) -> None:
        found = dict(session.execute(select(Setting.key, Setting.value)).all())
        if not found and create:
            session.add_all([Setting(key="schema", value=SCHEMA), Setting(key="secret", value=secrets.token_hex(32))])
            session.flush()
        elif found.get("schema") != SCHEMA:
            raise RunError(
                f"database '{self.url.render_as_string()}' has schema {found.get('schema')}; this version reads "
                f"{SCHEMA}. Export it with the version that made it, and import the export here."
            )

    def secret(self) -> bytes:
        """Key of everything drawn or signed for this database."""
        with self.read() as session:
            return bytes.fromhex(session.execute(select(Setting.value).where(Setting.key == "secret")).scalar_one())


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Busy(str(getattr(error, "orig", error)).splitlines()[0]) from error


def _url(place: str) -> URL:
    if "://" not in place:
        return URL.create("sqlite", database=place)
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise UsageError(f"--db is '{place}' ({error}); accepted: a file, or postgresql://USER@HOST/NAME.") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        if find_spec("psycopg") is None:
            raise UsageError(
                "--db names PostgreSQL, and psycopg is not installed. `pip install 'safetyvalve[postgresql]'`."
            )
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    raise UsageError(
        f"--db is '{url.render_as_string()}'; accepted: a file, sqlite:///FILE or postgresql://USER@HOST/NAME."
    )


def _engine(url: URL, is_sqlite: bool) -> Engine:
    if not is_sqlite:
        options = f"-c lock_timeout={_WAIT_MS} -c statement_timeout=30000"
        return create_engine(url, connect_args={"options": options}, **_POOL)
    file = Path(str(url.database))
    if not file.parent.is_dir():
        raise RunError(f"database '{file}' cannot be made: its folder does not exist. Make it, or name another --db.")
    if not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = create_engine(url, connect_args={"timeout": _WAIT_MS / 1000}, **_POOL)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_WAIT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")
