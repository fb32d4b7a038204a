"""JSON for the pages' script: the same service calls, with ids that the client makes and may send again."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from safetyvalve.annotate.fields import CLIENT_ID, KEY, Key
from safetyvalve.annotate.judge_pages import after_vote, editable_sight, reserve
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.site import visit
from safetyvalve.annotate.votes import LONGEST_CORRECTION, Ballot, Choice, correct, keep, vote

__all__ = ["router"]

router = APIRouter(prefix="/api")

ClientId = Annotated[str, Field(pattern=CLIENT_ID)]
AssignmentKey = Annotated[str, Field(pattern=KEY)]
ActiveMs = Annotated[int | None, Field(ge=0, le=10**9)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VoteBody(_Body):
    """A vote."""

    id: ClientId
    assignment: AssignmentKey
    choice: Choice
    strength: Annotated[int | None, Field(ge=1, le=3)] = None
    tags: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=10)] = []
    active_ms: ActiveMs = None
    then: Literal["next", "correct", "skip"] = "next"


class CorrectionBody(_Body):
    """A corrected answer."""

    id: ClientId
    assignment: AssignmentKey
    answer: Literal["1", "2"]
    text: Annotated[str, Field(max_length=4 * LONGEST_CORRECTION)]
    active_ms: ActiveMs = None


class Stored(BaseModel):
    """It is in the database, committed."""

    id: str
    next: str
    """The page to go on to."""


@router.post("/votes")
def store_vote(request: Request, body: VoteBody) -> Stored:
    """Store a vote; sent twice, it is stored once."""
    ballot = Ballot(body.id, body.choice, body.strength, body.tags, body.active_ms)
    with visit(request, write=True, role="annotator") as v:
        assignment, stored = vote(v.session, v.site.queue, v.me, body.assignment, ballot, v.now)
        place = after_vote(assignment, body.choice, body.then)
        reserve(v, place)
    return Stored(id=stored.id, next=place)


@router.post("/corrections")
def store_correction(request: Request, body: CorrectionBody) -> Stored:
    """Store a corrected answer; sent twice, it is stored once."""
    if any(0xD800 <= ord(c) < 0xE000 for c in body.text):
        raise Refusal(422, "form")
    with visit(request, write=True, role="annotator") as v:
        editable_sight(v, body.assignment)
        stored = correct(
            v.session,
            v.me,
            body.assignment,
            id=body.id,
            shown=body.answer,
            text=body.text,
            active_ms=body.active_ms,
            now=v.now,
        )
    return Stored(id=stored.id, next=f"/judge/{body.assignment}/corrected?answer={body.answer}")


@router.post("/assignments/{key}/keep", status_code=204)
def keep_assignment(request: Request, key: Key) -> None:
    """The annotator is still reading: extend the lease."""
    with visit(request, write=True, role="annotator") as v:
        keep(v.session, v.site.queue, v.me, key, v.now)
