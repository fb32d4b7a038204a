"""The application: routes, what refusals look like, and the server that runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError, IntegrityError
from starlette.exceptions import HTTPException

from safetyvalve.annotate import (
    admin_pages,
    api,
    entry_pages,
    item_pages,
    judge_pages,
    people_pages,
    review_pages,
)
from safetyvalve.annotate.database import Busy, Database
from safetyvalve.annotate.guard import Guard
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.site import STATIC, Settings, Site, Visit
from safetyvalve.annotate.watch import watching
from safetyvalve.errors import SafetyValveError

__all__ = ["create_app"]

LARGEST_BODY = 64 * 2**20
"""Bytes: an uploaded file of answers. Fields of forms have limits of their own."""


def create_app(database: Database, settings: Settings, *, watch: bool = True) -> FastAPI:
    """The labelling app on a database.

    Args:
        watch: look at the runs for new samples while it runs.
    """
    site = Site(database, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if watch:
            with watching(site):
                yield
        else:
            yield

    app = FastAPI(
        title="safetyvalve annotate",
        docs_url=None,  # the documentation pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        max_body_size=LARGEST_BODY,
        form_limits={"max_fields": 100, "max_files": 1, "max_part_size": 2**20},
    )
    app.state.site = site
    app.add_middleware(Guard, address=site.address)
    for module in (entry_pages, judge_pages, api, review_pages, admin_pages, item_pages, people_pages):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(IntegrityError, _overtaken)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(DataError, _invalid)  # characters that the database cannot hold
    app.add_exception_handler(SafetyValveError, _told)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return app


def _answer(request: Request, status: int, key: str, **more: Any) -> Response:
    one = _visit(request)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": key.removeprefix("refused."), "message": one.text(key)}, status)
    return one.message(status, key, **more)


def _visit(request: Request) -> Visit:
    """For a page that says what went wrong: who asks is looked up if the database still answers."""
    site: Site = request.app.state.site
    try:
        with site.database.read() as session:
            one = Visit(site, request, session)
            one.identify()
    except Busy:
        one = Visit(site, request)
    return one


def _refused(request: Request, error: Any) -> Response:
    return _answer(request, error.status, f"refused.{error.key}")


async def _busy(request: Request, error: Any) -> Response:
    """Nothing was stored: give the form back, so that nothing that was typed is lost."""
    kept: list[tuple[str, str]] = []
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = await request.form()
        kept = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    response = _answer(request, 503, "refused.busy", kept=kept) if kept else _answer(request, 503, "refused.busy")
    response.headers["Retry-After"] = "2"
    return response


def _overtaken(request: Request, error: Any) -> Response:
    """What the request is about went away while it was under way, such as a person who was erased."""
    return _answer(request, 409, "refused.other_content")


def _invalid(request: Request, error: Any) -> Response:
    return _answer(request, 422, "refused.form")


def _told(request: Request, error: Any) -> Response:
    """An upload or a rule that is not accepted: the message names the row and the field."""
    one = _visit(request)
    return one.page(
        "message.html",
        status=422,
        heading=one.text("refused.title"),
        text=" ".join(str(error).split()),
        kept=[],
        action="",
    )


def _http(request: Request, error: Any) -> Response:
    keys = {404: "refused.not_found", 405: "refused.method", 413: "refused.large"}
    response = _answer(request, error.status_code, keys.get(error.status_code, "refused.form"))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _failed(request: Request, error: Any) -> Response:
    return _answer(request, 500, "refused.error")
