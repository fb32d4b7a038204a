"""The annotator's pages: judge, correct, practice, progress. They work without scripts."""

from __future__ import annotations

import difflib
import uuid
from typing import Annotated, Literal

import regex
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, Response
from markupsafe import Markup

from safetyvalve.annotate import mine
from safetyvalve.annotate.fields import CLIENT_ID, Csrf, Key
from safetyvalve.annotate.models import Assignment, Item
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.rendering import render, render_plain
from safetyvalve.annotate.site import Visit, visit
from safetyvalve.annotate.tally import judged
from safetyvalve.annotate.views import Sight, as_shown, find_subject, open_subject, shown_choice, subject_of
from safetyvalve.annotate.votes import (
    LONGEST_CORRECTION,
    TAGS,
    Ballot,
    Choice,
    correct,
    held_correction,
    held_vote,
    own,
    report,
    vote,
)

__all__ = ["after_vote", "editable_sight", "reserve", "router"]

router = APIRouter()
ClientId = Annotated[str, Form(pattern=CLIENT_ID)]
Shown = Literal["1", "2"]
Milliseconds = Annotated[str, Form(pattern="^[0-9]{0,9}$")]


@router.get("/judge")
def judge(request: Request, saved: Annotated[str, Query(pattern="^([0-9a-f]{32})?$")] = "") -> Response:
    """The next item. Mostly it was chosen with the vote before, and this page only reads."""
    with visit(request, role="annotator") as v:
        if v.me.agreed_at is None:
            return v.go("/guideline")
        subject = open_subject(v.session, v.me, v.site.queue.fresh_from(v.now))
        flash: dict[str, object] = {"done": judged(v.session, v.me), **_saved(v, saved)}
    if subject is None:
        with v.site.database.write() as session:
            assignment = v.site.queue.next(session, v.me, v.lang, v.now)
            subject = subject_of(session, assignment) if assignment else None
    if subject is None:
        return v.page("done.html", here="judge", **flash)
    return _judge_page(v, Sight(subject, v.site.mask), None, **flash)


def _saved(v: Visit, key: str) -> dict[str, object]:
    """What the page says of the vote before."""
    if not key:
        return {"saved": "", "saved_editable": False, "late": False}
    subject = find_subject(v.session, v.me, key)
    if subject is None:
        return {"saved": "", "saved_editable": False, "late": False}
    before = subject.assignment
    return {
        "saved": before.id if before.kind != "practice" else "",
        "saved_editable": before.state == "done" and Sight(subject, v.site.mask).editable,
        "late": before.state == "late",
    }


@router.get("/judge/{key}")
def judge_again(request: Request, key: Key) -> Response:
    """An item judged before, to change the vote."""
    with visit(request, role="annotator") as v:
        assignment = own(v.session, v.me, key)
        held = held_vote(v.session, key)
        done = judged(v.session, v.me)
        sight = Sight(subject_of(v.session, assignment), v.site.mask)
    return _judge_page(v, sight, as_shown(held), saved="", saved_editable=False, late=False, done=done)


def _judge_page(v: Visit, sight: Sight, held: dict[str, object] | None, **flash: object) -> Response:
    return v.page(
        "judge.html",
        here="judge",
        assignment=sight.id,
        kind=sight.kind if sight.kind == "practice" else "regular",
        prompt=sight.prompt(),
        answers=sight.answers(),
        editable=sight.editable,
        held=held,
        revising=held is not None,
        tags=TAGS,
        vote_id=str(uuid.uuid4()),
        report_id=str(uuid.uuid4()),
        **flash,
    )


@router.post("/judge/{key}")
def store_vote(
    request: Request,
    key: Key,
    id: ClientId,
    choice: Annotated[Choice | None, Form()] = None,
    strength: Annotated[int | None, Form(ge=1, le=3)] = None,
    tags: Annotated[list[str], Form(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    active_ms: Milliseconds = "",
    then: Annotated[Literal["next", "correct", "skip"], Form()] = "next",
    csrf: Csrf = "",
) -> Response:
    """Store a vote sent without scripts."""
    made: Choice | None = "skip" if then == "skip" else choice
    if made is None:
        raise Refusal(422, "form")
    ballot = Ballot(id, made, strength, tags, int(active_ms) if active_ms else None)
    with visit(request, write=True, role="annotator", csrf=csrf) as v:
        assignment, _ = vote(v.session, v.site.queue, v.me, key, ballot, v.now)
        place = after_vote(assignment, made, then)
        reserve(v, place)
    return v.go(place)


def reserve(v: Visit, place: str) -> None:
    """Choose the next item in the vote's own transaction: one writer's turn instead of two for each judgment."""
    if place.startswith("/judge?"):
        v.site.queue.next(v.session, v.me, v.lang, v.now)


def after_vote(assignment: Assignment, choice: str, then: str) -> str:
    """Where a vote leads."""
    if assignment.kind == "practice" and choice != "skip":
        return f"/judge/{assignment.id}/feedback"
    if then == "correct" and choice != "skip":
        shown = choice if choice in ("1", "2") else "1"
        return f"/judge/{assignment.id}/correct?answer={shown}"
    return f"/judge?saved={assignment.id}"


@router.get("/judge/{key}/feedback")
def feedback(request: Request, key: Key) -> Response:
    """What was expected of a practice item, once it was judged."""
    with visit(request, role="annotator") as v:
        assignment, held = own(v.session, v.me, key), held_vote(v.session, key)
        if held is None or assignment.kind != "practice":
            raise Refusal(404, "no_assignment")
        item = v.session.get_one(Item, assignment.item_id)
    expected = item.expected or ""
    return v.page(
        "feedback.html",
        here="judge",
        assignment=key,
        right=held.choice == expected,
        expected=shown_choice(expected, assignment.swapped),
        why=render(item.why) if item.why else "",
    )


@router.get("/judge/{key}/correct")
def correction_page(request: Request, key: Key, answer: Shown | None = None) -> Response:
    """The editor, filled with the answer or with the last correction of it."""
    with visit(request, role="annotator") as v:
        sight = editable_sight(v, key)
        held = as_shown(held_vote(v.session, key))
        preferred = str(held["choice"]) if held else ""
        shown: Shown = answer or ("2" if preferred == "2" else "1")
        last = held_correction(v.session, key, shown, sight.swapped)
    return v.page(
        "correct.html",
        here="judge",
        assignment=key,
        shown=shown,
        preferred=preferred,
        prompt=sight.prompt(),
        text=last.text if last else sight.text(shown),
        correction_id=str(uuid.uuid4()),
    )


@router.post("/judge/{key}/correct")
def store_correction(
    request: Request,
    key: Key,
    id: ClientId,
    answer: Annotated[Shown, Form()],
    text: Annotated[str, Form(max_length=4 * LONGEST_CORRECTION)] = "",
    active_ms: Milliseconds = "",
    csrf: Csrf = "",
) -> Response:
    """Store a correction sent without scripts."""
    with visit(request, write=True, role="annotator", csrf=csrf) as v:
        editable_sight(v, key)
        milliseconds = int(active_ms) if active_ms else None
        correct(v.session, v.me, key, id=id, shown=answer, text=text, active_ms=milliseconds, now=v.now)
    return v.go(f"/judge/{key}/corrected?answer={answer}")


@router.get("/judge/{key}/corrected")
def corrected(request: Request, key: Key, answer: Shown = "1") -> Response:
    """What the last correction changed."""
    with visit(request, role="annotator") as v:
        sight = editable_sight(v, key)
        last = held_correction(v.session, key, answer, sight.swapped)
        if last is None:
            raise Refusal(404, "no_assignment")
    difference = _difference(sight.text(answer), last.text)
    return v.page("corrected.html", here="judge", assignment=key, shown=answer, distance=last.distance, diff=difference)


@router.post("/judge/{key}/report")
def store_report(
    request: Request, key: Key, id: ClientId, reason: Annotated[str, Form(max_length=8000)] = "", csrf: Csrf = ""
) -> Response:
    """Store that an item should not be shown."""
    with visit(request, write=True, role="annotator", csrf=csrf) as v:
        report(v.session, v.site.queue, v.me, key, id=id, reason=reason, now=v.now)
    return v.go("/judge")


@router.get("/progress")
def progress(request: Request) -> Response:
    """The annotator's own work."""
    with visit(request, role="annotator") as v:
        summary = mine.summary(v.session, v.me)
    return v.page("progress.html", here="progress", **summary)


@router.get("/progress/mine.json")
def own_data(request: Request) -> Response:
    """Everything stored about the annotator, sides as they were shown."""
    with visit(request, role="annotator") as v:
        data = mine.everything(v.session, v.me)
    return JSONResponse(data, headers={"Content-Disposition": 'attachment; filename="mine.json"'})


def editable_sight(v: Visit, key: str) -> Sight:
    """An item whose answers may be corrected.

    Raises:
        Refusal: 404 for somebody else's, 403 where it is masked, too long, or not to be corrected.
    """
    sight = Sight(subject_of(v.session, own(v.session, v.me, key)), v.site.mask)
    if not sight.editable:
        raise Refusal(403, "not_editable")
    return sight


def _difference(before: str, after: str) -> Markup:
    """Words of Western scripts and single characters of others, struck out and added."""
    old, new = (regex.findall(r"[\p{Latin}\p{Cyrillic}\p{Greek}\p{N}]+|\X", text) for text in (before, after))
    parts = []
    for what, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=len(old) > 5000).get_opcodes():
        gone, come = render_plain("".join(old[i:j])), render_plain("".join(new[k:m]))
        if what == "equal":
            parts.append(come)
            continue
        parts += [Markup("<del>{}</del>").format(gone)] if gone else []
        parts += [Markup("<ins>{}</ins>").format(come)] if come else []
    return Markup("").join(parts)
