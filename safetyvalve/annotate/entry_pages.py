"""Signing in and out, and the first pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import Response

from safetyvalve.annotate import auth
from safetyvalve.annotate.batches import guideline
from safetyvalve.annotate.events import append
from safetyvalve.annotate.fields import Csrf
from safetyvalve.annotate.models import Annotator
from safetyvalve.annotate.rendering import render
from safetyvalve.annotate.site import COOKIE, visit

__all__ = ["router"]

router = APIRouter()
Token = Annotated[str, Path(max_length=200)]


@router.get("/")
def home(request: Request) -> Response:
    """Where each role begins."""
    with visit(request) as v:
        pass
    if v.visitor is None:
        return v.message(200, "welcome.text", heading="welcome.title")
    return v.go("/judge" if v.me.role == "annotator" else "/results" if v.me.role == "reviewer" else "/admin")


@router.get("/invite/{token}")
def look_at_invite(request: Request, token: Token) -> Response:
    """Opening the link does not use it: mail programs open links to preview them."""
    with visit(request) as v:
        role = auth.find_invite(v.session, token, v.now).role
    return v.page("invite.html", role=role)


@router.post("/invite/{token}")
def accept_invite(request: Request, token: Token) -> Response:
    """Sign in. The token itself shows that the form is ours."""
    with visit(request, write=True) as v:
        cookie = auth.accept(v.session, token, v.now).token
    response = v.go("/")
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=auth.LOGIN_MS // 1000,
        httponly=True,
        samesite="lax",
        secure=v.site.address.is_secure,
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request, csrf: Csrf = "") -> Response:
    """Forget the browser."""
    with visit(request, write=True) as v:
        if v.visitor is not None and v.cookie and auth.same_token(csrf, v.csrf):
            auth.sign_out(v.session, v.cookie)
    response = v.go("/")
    response.delete_cookie(COOKIE)
    return response


@router.get("/guideline")
def read_guideline(request: Request) -> Response:
    """Guideline, notice of harmful content, and what is kept."""
    with visit(request, role="annotator") as v:
        words = guideline(v.session, v.lang)
    return v.page("guideline.html", here="guideline", guideline=render(words))


@router.post("/guideline")
def agree(request: Request, agreed: Annotated[str, Form(pattern="^yes$")], csrf: Csrf = "") -> Response:
    """Judging begins once this was accepted."""
    with visit(request, write=True, role="annotator", csrf=csrf) as v:
        me = v.session.get_one(Annotator, v.me.id)
        if me.agreed_at is None:
            me.agreed_at = v.now
            append(v.session, "agreed", me.name, {"lang": v.lang}, at=v.now)
    return v.go("/judge")
