"""What the server holds while it runs, and one visit to it: who asks, in which language, in which transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from sqlalchemy.orm import Session

from safetyvalve import __version__
from safetyvalve.annotate import auth
from safetyvalve.annotate.assignment import Queue
from safetyvalve.annotate.batches import names_in
from safetyvalve.annotate.blinding import Mask
from safetyvalve.annotate.database import Database
from safetyvalve.annotate.events import milliseconds
from safetyvalve.annotate.guard import Address
from safetyvalve.annotate.models import Annotator
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.rendering import render_plain
from safetyvalve.annotate.text import LANGUAGES, Text, preferred

__all__ = ["Settings", "Site", "Visit", "visit"]

COOKIE, LANG_COOKIE = "safetyvalve", "lang"
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Args:
        public_url: where people reach it.
        lease_minutes: how long an item stays with an annotator who does nothing.
        poll_seconds: between looks at the runs for new samples.
        per_file: most pairs drawn from one file of samples; None for all.
        words: further words to hide in answers.
    """

    public_url: str
    lease_minutes: float = 30
    poll_seconds: float = 5
    per_file: int | None = None
    words: tuple[str, ...] = ()


@dataclass
class Site:
    """Everything that requests share."""

    database: Database
    settings: Settings
    clock: Callable[[], int] = milliseconds
    troubles: list[str] = field(default_factory=list)
    """What the watcher of the runs could not read, for the administrator."""

    def __post_init__(self) -> None:
        self.address = Address.of(self.settings.public_url)
        self.secret = self.database.secret()
        self.queue = Queue(self.secret, int(self.settings.lease_minutes * 60_000))
        self.stop = threading.Event()
        self.templates = Environment(
            loader=PackageLoader("safetyvalve.annotate"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters["marked"] = _marked
        self.templates.filters["seen"] = render_plain
        self.refresh_mask()

    def refresh_mask(self) -> None:
        """Learn the names of runs and models that have come in."""
        with self.database.read() as session:
            self.mask = Mask(names_in(session), self.settings.words)


def _marked(text: str) -> Markup:
    """A message with its `code`."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


class Visit:
    """One request: made by :func:`visit`."""

    def __init__(self, site: Site, request: Request, session: Session | None = None) -> None:
        self.site, self.request, self.now = site, request, site.clock()
        self._session, self.cookie = session, request.cookies.get(COOKIE)
        self._me: Annotator | None = None
        asked = request.query_params.get("lang", "")
        self.chosen = asked if asked in LANGUAGES else None
        kept = request.cookies.get(LANG_COOKIE, "")
        self.lang = self.chosen or (
            kept if kept in LANGUAGES else preferred(request.headers.get("accept-language", ""))
        )
        self.text = Text(self.lang)

    @property
    def session(self) -> Session:
        if self._session is None:
            raise RuntimeError("this visit has no transaction")
        return self._session

    @property
    def me(self) -> Annotator:
        """Who asks.

        Raises:
            Refusal: 401 where nobody is signed in.
        """
        if self._me is None:
            raise Refusal(401, "sign_in")
        return self._me

    @property
    def visitor(self) -> Annotator | None:
        return self._me

    def enter(self, session: Session) -> None:
        """Go on in another transaction."""
        self._session = session

    def identify(self) -> None:
        """Look the cookie up."""
        found = auth.look_up(self.session, self.cookie, self.now)
        self._me = found.annotator if found else None

    @property
    def csrf(self) -> str:
        return auth.csrf_token(self.site.secret, self.cookie) if self.cookie and self._me else ""

    def page(self, template: str, /, **values: Any) -> Response:
        """A rendered page. Call it after the transaction: rendering must not keep other writers waiting.

        Args:
            values: of the template; besides, ``status`` of the response and ``here``, the page's place in the menu.
        """
        status = values.pop("status", 200)
        html = self.site.templates.get_template(template).render(
            t=self.text,
            lang=self.lang,
            me=self._me,
            csrf=self.csrf,
            path=self.request.url.path,
            switch=self._in_other_language(),
            version=__version__,
            **({"here": ""} | values),
        )
        response = HTMLResponse(html, status)
        self.remember_language(response)
        return response

    def _in_other_language(self) -> str:
        """The address of this page in the other language; where a form led, it can only be the start."""
        other = "en" if self.lang == "ja" else "ja"
        if self.request.method not in ("GET", "HEAD"):
            return f"/?lang={other}"
        url = self.request.url.include_query_params(lang=other)
        return f"/{url.path.lstrip('/')}?{url.query}"  # two slashes would lead to another server

    def message(
        self, status: int, key: str, *, heading: str = "refused.title", kept: Sequence[tuple[str, str]] = ()
    ) -> Response:
        """A page that says one thing; ``kept`` is what was sent, to be sent again."""
        return self.page(
            "message.html",
            status=status,
            heading=self.text(heading),
            text=self.text(key),
            kept=kept,
            action=self.request.url.path,
        )

    def remember_language(self, response: Response) -> None:
        if self.chosen:
            response.set_cookie(
                LANG_COOKIE,
                self.chosen,
                max_age=_YEAR,
                samesite="lax",
                secure=self.site.address.is_secure,
                httponly=True,
            )

    def go(self, place: str) -> Response:
        """A redirect after something was stored, so that reloading does not send it again."""
        response = RedirectResponse(place, 303)
        self.remember_language(response)
        return response


@contextmanager
def visit(
    request: Request, *, write: bool = False, role: str | None = None, csrf: str | None = None
) -> Iterator[Visit]:
    """A visit inside one transaction. Who may not write is turned away before it takes a writer's turn.

    Args:
        write: whether anything is stored.
        role: who may ask: ``annotator``, ``reviewer`` (and admin) or ``admin``; None for anybody.
        csrf: what the form carried, for whatever changes something.

    Raises:
        Refusal: 401 not signed in, 403 another role or a foreign form.
        Busy: the database does not answer.
    """
    site: Site = request.app.state.site
    if role is None or not write:
        # An annotator's page reads a few rows; what a reviewer reads may be everything.
        reading = site.database.glance if role == "annotator" else site.database.read
        with site.database.write() if write else reading() as session:
            one = Visit(site, request, session)
            one.identify()
            _check(one, role, csrf)
            yield one
        return
    with site.database.glance() as session:
        one = Visit(site, request, session)
        one.identify()
    _check(one, role, csrf)
    with site.database.write() as session:
        one.enter(session)
        yield one


def _check(one: Visit, role: str | None, csrf: str | None) -> None:
    if role is None:
        return
    _check_role(one.me.role, role)
    if one.request.method not in ("GET", "HEAD"):
        sent = csrf if csrf else one.request.headers.get("x-csrf-token", "")
        if not auth.same_token(sent, one.csrf):
            raise Refusal(403, "csrf")


def _check_role(mine: str, wanted: str) -> None:
    accepted = {"annotator": ("annotator",), "reviewer": ("reviewer", "admin"), "admin": ("admin",)}[wanted]
    if mine not in accepted:
        raise Refusal(403, "judge_role" if wanted == "annotator" else "role")


STATIC = Path(__file__).parent / "static"
