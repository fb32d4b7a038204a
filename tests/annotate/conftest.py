"""Databases: a file for SQLite, and a PostgreSQL server that the tests start themselves."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from safetyvalve.annotate import Database, Rules, Settings, Source, create_app
from safetyvalve.annotate.batches import add_practice, open_batch
from safetyvalve.annotate.watch import look

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
URL = "http://127.0.0.1:8471"


def postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Postgres:
    """A server on loopback with a database for each test; it refuses to run as root, so it runs as postgres."""

    def __init__(self, binaries: Path, folder: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="safetyvalve-pg-", dir=folder))
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.as_user:
            shutil.chown(self.folder, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.data = self.folder / "data"
        self._run(binaries / "initdb", "-D", self.data, "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        self.control = binaries / "pg_ctl"
        self._run(self.control, "-D", self.data, "-o", options, "-l", self.folder / "log", "-w", "start")
        self.pid = int((self.data / "postmaster.pid").read_text().split()[0])
        self.made: set[str] = set()

    def _run(self, *command: object) -> None:
        subprocess.run(
            [*self.as_user, *map(str, command)], check=True, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=60
        )

    def new_database(self, name: str = "main_one") -> str:
        """The URL of an empty database; what another test left in it is gone."""
        import psycopg

        base = f"postgresql://tester@127.0.0.1:{self.port}"
        if name not in self.made:
            with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            self.made.add(name)
        with psycopg.connect(f"{base}/{name}", autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return f"{base}/{name}"

    def close(self) -> None:
        self._run(self.control, "-D", self.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    server = Postgres(binaries, MEMORY)
    yield server
    server.close()


# The same tests on both; a server to start is for `make test-slow`.
@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """What --db takes. In memory where the system has a folder for that: each commit waits for the disk."""
    if request.param == "sqlite":
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            yield str(Path(folder) / "annotate.db")
    else:
        yield request.getfixturevalue("postgres").new_database()


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    opened = Database(place)
    yield opened
    opened.close()


@pytest.fixture
def serve(database: Database) -> Iterator[Callable[..., Any]]:
    """An app on the database, with a batch from the paths."""
    running = ExitStack()

    def make(
        *paths: Path, rules: Rules | None = None, practice: bool = False, pairing: Any = None, **settings: Any
    ) -> Any:
        app = create_app(database, Settings(URL, **settings), watch=False)
        with database.write() as session:
            if practice:
                add_practice(session)
            if paths:
                open_batch(session, Source.of(paths, pairing), rules or Rules(repeat_share=0, gold_every=0))
        look(app.state.site)
        # One event loop for all clients of the app; each request would start its own.
        app.state.portal = running.enter_context(TestClient(app, base_url=URL)).portal
        return app

    with running:
        yield make
