"""From a command line to a server that listens."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import uvicorn

from safetyvalve.annotate import auth
from safetyvalve.annotate.batches import Rules, add_practice, open_batch
from safetyvalve.annotate.database import Database
from safetyvalve.annotate.events import milliseconds
from safetyvalve.annotate.guard import is_loopback
from safetyvalve.annotate.server import create_app
from safetyvalve.annotate.site import Settings, Site
from safetyvalve.annotate.sources import Pairing, Source
from safetyvalve.annotate.watch import look
from safetyvalve.errors import RunError, UsageError

__all__ = ["Start", "run_server"]


class Start(NamedTuple):
    """What `safetyvalve annotate serve` was told; see its help."""

    sources: tuple[Path, ...] = ()
    db: str = "annotate.db"
    pairing: Pairing | None = None
    rules: Rules = Rules()
    per_step: int | None = None
    words: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8471
    public_url: str | None = None
    lease: float = 30
    poll: float = 5
    invites: int = 0


def run_server(start: Start, *, say: Callable[[str], object]) -> None:
    """Fill the database, print the links, and serve until stopped.

    Raises:
        UsageError: an address beyond this machine without --public-url, or another option that is not accepted.
        RunError: the port is taken, or the database cannot be used.
        DataError: a source that cannot be read.
    """
    if not is_loopback(start.host) and start.public_url is None:
        raise UsageError(
            f"--host is '{start.host}', which others can reach; give --public-url https://..., and a proxy with TLS in "
            "front, or leave --host at 127.0.0.1."
        )
    with closing(_listen(start.host, start.port)) as listener:
        host = f"[{start.host}]" if ":" in start.host else start.host
        url = start.public_url or f"http://{host}:{listener.getsockname()[1]}"
        settings = Settings(url, start.lease, start.poll, start.per_step, start.words)
        with closing(Database(start.db)) as database:
            app = create_app(database, settings)
            _fill(app.state.site, start, say)
            _invite(app.state.site, start.invites, say)
            gc.collect()
            gc.freeze()  # what is there now stays; looking through it again would hold every page up
            # No access log: it would hold addresses of people and tokens of invites.
            config = uvicorn.Config(
                app, access_log=False, log_level=logging.WARNING, server_header=False, proxy_headers=False
            )
            uvicorn.Server(config).run(sockets=[listener])


def _invite(site: Site, annotators: int, say: Callable[[str], object]) -> None:
    with site.database.write() as session:
        links = [
            (role, auth.invite(session, role, actor="server", now=milliseconds(), days=days))
            for role, days in [("admin", 1.0)] + [("annotator", 7.0)] * annotators
        ]
    say(f"serving {site.address.origin}")
    for role, token in links:
        say(f"{role} link, works once: {site.address.origin}/invite/{token}")


def _fill(site: Site, start: Start, say: Callable[[str], object]) -> None:
    rules = start.rules.checked()
    with site.database.write() as session:
        add_practice(session)
        if start.sources:
            batch = open_batch(session, Source.of(start.sources, start.pairing), rules)
            kept = Rules(batch.overlap, batch.repeat_share, batch.gold_every, batch.may_correct)
            if kept != rules:
                say(f"batch '{batch.name}' is resumed with its own rules ({kept}); see the administrator's page")
    added = look(site)
    for trouble in site.troubles:
        say(trouble)
    say(f"{added} new items")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle on
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)  # whoever opens a printed link at once waits a moment instead of being refused
    except OSError as error:
        listener.close()
        raise RunError(f"port {port} on {host} cannot be used ({error.strerror}). Name another --port.") from None
    listener.set_inheritable(False)
    return listener
