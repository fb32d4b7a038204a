"""The administrator's page of people and invites."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import func, select

from safetyvalve.annotate import auth
from safetyvalve.annotate.events import append
from safetyvalve.annotate.fields import Csrf, Notice, Number
from safetyvalve.annotate.models import Annotator, Assignment, Invite
from safetyvalve.annotate.people import erase, stop
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.site import Visit, visit
from safetyvalve.annotate.when import date_of

__all__ = ["router"]

router = APIRouter(prefix="/admin")


@router.get("/people")
def people(request: Request, notice: Notice = "") -> Response:
    """Who takes part, and open invites."""
    with visit(request, role="admin") as v:
        values = _people(v)
    told = {"changed": v.text("admin.changed"), "erased": v.text("people.erased")}.get(notice, "")
    return v.page("people.html", here="people", notice=told, error="", links=[], **values)


def _people(v: Visit) -> dict[str, Any]:
    done = dict(
        v.session.execute(
            select(Assignment.annotator_id, func.count())
            .where(Assignment.kind == "regular", Assignment.state.in_(("done", "late")))
            .group_by(Assignment.annotator_id)
        ).all()
    )
    open_invites = v.session.execute(
        select(Invite, Annotator.name)
        .outerjoin(Annotator, Invite.annotator_id == Annotator.id)
        .where(Invite.used_at.is_(None), ~Invite.revoked, Invite.expires_at > v.now)
        .order_by(Invite.expires_at)
    )
    return {
        "roles": auth.ROLES,
        "invites": [
            {"id": i.id, "role": i.role, "name": name or "", "expires": date_of(i.expires_at)}
            for i, name in open_invites
        ],
        "people": [
            {
                "id": a.id,
                "name": a.name,
                "role": a.role,
                "is_active": a.is_active,
                "votes": done.get(a.id, 0),
                "me": a.id == v.me.id,
            }
            for a in v.session.scalars(select(Annotator).order_by(Annotator.id))
        ],
    }


@router.post("/invites")
def make_invites(
    request: Request,
    role: Annotated[Literal["annotator", "reviewer", "admin"], Form()],
    number: Annotated[int, Form(ge=1, le=200)] = 1,
    days: Annotated[int, Form(ge=1, le=366)] = 7,
    csrf: Csrf = "",
) -> Response:
    """Make invite links. They stand on this page only: not in an address, not in the database."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        tokens = [auth.invite(v.session, role, actor=v.me.name, now=v.now, days=days) for _ in range(number)]
        values = _people(v)
    return _with_links(v, tokens, values)


def _with_links(v: Visit, tokens: list[str], values: dict[str, Any]) -> Response:
    links = [f"{v.site.address.origin}/invite/{token}" for token in tokens]
    return v.page("people.html", here="people", notice="", error="", links=links, **values)


@router.post("/invites/{number}/revoke")
def revoke_invite(request: Request, number: Number, csrf: Csrf = "") -> Response:
    """Take an unused invite back."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        row = v.session.get(Invite, number)
        if row is None:
            raise Refusal(404, "not_found")
        row.revoked = True
        append(v.session, "revoked", v.me.name, {"invite": row.id}, at=v.now)
    return v.go("/admin/people?notice=changed")


@router.post("/people/{number}")
def change_person(
    request: Request,
    number: Number,
    action: Annotated[Literal["link", "stop", "erase"], Form()],
    csrf: Csrf = "",
) -> Response:
    """A new sign-in link, an end, or erasure."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        person = v.session.get(Annotator, number)
        if person is None:
            raise Refusal(404, "not_found")
        if person.id == v.me.id:
            raise Refusal(403, "last_admin")
        if action == "link":
            token = auth.invite(v.session, person.role, actor=v.me.name, now=v.now, days=1, annotator=person)
            values = _people(v)
        elif action == "stop":
            stop(v.session, person, actor=v.me.name, now=v.now)
        else:
            erase(v.session, person, actor=v.me.name, now=v.now)
    if action == "link":
        return _with_links(v, [token], values)
    return v.go(f"/admin/people?notice={'erased' if action == 'erase' else 'changed'}")
