"""The administrator's list of items: gold, withdrawn, and where each came from."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.events import append, record_of
from safetyvalve.annotate.fields import Csrf, Key, Notice
from safetyvalve.annotate.models import Assignment, Item
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.rendering import render
from safetyvalve.annotate.results import source_name
from safetyvalve.annotate.site import visit
from safetyvalve.hashing import digest

__all__ = ["router"]

router = APIRouter(prefix="/admin/items")
_PER_PAGE = 25


@router.get("")
def items(request: Request, page: Annotated[int, Query(ge=1, le=10**6)] = 1, notice: Notice = "") -> Response:
    """Gold and practice first, then the rest in the order in which it is given out."""
    with visit(request, role="admin") as v:
        pages = max(1, math.ceil((v.session.scalar(select(func.count()).select_from(Item)) or 0) / _PER_PAGE))
        query = select(Item).order_by((Item.kind == "regular"), Item.kind, Item.batch_id, Item.position)
        shown = [_item(v.session, i) for i in v.session.scalars(query.limit(_PER_PAGE).offset((page - 1) * _PER_PAGE))]
    told = v.text("admin.changed") if notice else ""
    return v.page("items.html", here="items", items=shown, page=page, pages=pages, notice=told)


def _item(session: Session, item: Item) -> dict[str, Any]:
    done = select(func.count()).where(Assignment.item_id == item.id, Assignment.state == "done")
    return {
        **{f: getattr(item, f) for f in ("id", "kind", "withdrawn", "expected", "why")},
        "title": " ".join(item.prompt[-1]["content"].split())[:90],
        "prompt": render(item.prompt[-1]["content"]),
        "a": render(item.answer_a),
        "b": render(item.answer_b),
        "source_a": source_name(item.source_a),
        "source_b": source_name(item.source_b),
        "votes": session.scalar(done),
    }


@router.post("/{key}")
def change_item(
    request: Request,
    key: Key,
    action: Annotated[Literal["gold", "withdraw", "restore"], Form()],
    expected: Annotated[Literal["a", "b", "tie", "both_bad"] | None, Form()] = None,
    why: Annotated[str, Form(max_length=2000)] = "",
    csrf: Csrf = "",
) -> Response:
    """Make an item gold, withdraw it, or take that back."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        item = v.session.get(Item, key)
        if item is None:
            raise Refusal(404, "not_found")
        if action == "gold":
            _make_gold(v.session, item, expected, why, actor=v.me.name, now=v.now)
        else:
            item.withdrawn = action == "withdraw"
            append(v.session, action, v.me.name, {"item": key}, at=v.now)
    return v.go("/admin/items?notice=changed")


def _make_gold(session: Session, item: Item, expected: str | None, why: str, *, actor: str, now: int) -> None:
    if expected is None or item.kind != "regular":
        raise Refusal(422, "form")
    if session.scalar(select(exists().where(Assignment.item_id == item.id))):
        raise Refusal(409, "used_item")
    item.kind, item.expected, item.why = "gold", expected, why.replace("\x00", "").strip() or None
    session.flush()
    # The last event of an item is the one that vouches for it.
    append(session, "item", actor, {"id": item.id, "digest": digest(record_of(item)), "gold": expected}, at=now)
