"""Votes, corrections and reports: each stored once however often it is sent, and never overwritten."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import regex
from rapidfuzz.distance import Levenshtein
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.assignment import Queue
from safetyvalve.annotate.events import append_row, outcome_of
from safetyvalve.annotate.models import Annotator, Assignment, Base, Correction, Item, Report, Vote
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.tally import JUDGED

__all__ = [
    "CHOICES",
    "LONGEST_CORRECTION",
    "TAGS",
    "Ballot",
    "Choice",
    "correct",
    "edit_distance",
    "held_correction",
    "held_vote",
    "keep",
    "own",
    "report",
    "vote",
]

Choice = Literal["1", "2", "tie", "both_bad", "skip"]
"""As the page says it: the answer shown first or second."""
CHOICES: tuple[Choice, ...] = get_args(Choice)
TAGS = ("correct", "helpful", "clear", "safe", "language")
"""Reasons an annotator may give: what the better answer does better."""

_LONGEST_ACTIVE_MS = 24 * 3600 * 1000
LONGEST_CORRECTION = 50_000
"""Characters; an answer longer than that is judged but not corrected."""
_Row = TypeVar("_Row", bound=Base)


class Ballot(NamedTuple):
    """A vote as it comes from a page."""

    id: str
    choice: Choice
    strength: int | None = None
    tags: Sequence[str] = ()
    active_ms: int | None = None


def vote(
    session: Session, queue: Queue, annotator: Annotator, assignment_id: str, ballot: Ballot, now: int
) -> tuple[Assignment, Vote]:
    """Store a vote, or a new revision of one.

    A vote on a lease that ran out still counts where a slot is free; else it is kept and marked late.

    Raises:
        Refusal: 404 for somebody else's assignment, 409 where the id stands for another vote.
    """
    values = {"assignment": assignment_id, "id": ballot.id, "annotator": annotator.id}
    assignment, same, last, judged = session.execute(_STANDING, values).first() or (None, None, None, 0)
    assignment = _checked(assignment, annotator)
    choice = _canonical(ballot.choice, assignment.swapped)
    decided = choice in ("a", "b")
    content = {
        "assignment_id": assignment.id,
        "choice": choice,
        "strength": ballot.strength if decided else None,
        "tags": sorted(set(ballot.tags) & set(TAGS)),
    }
    if same is not None:
        return assignment, _repeated(same, annotator, content)
    stored = Vote(
        id=ballot.id,
        item_id=assignment.item_id,
        annotator_id=annotator.id,
        repeat=assignment.repeat,
        revision=0 if last is None else last + 1,
        swapped=assignment.swapped,
        active_ms=_plausible(ballot.active_ms),
        nonce=secrets.token_hex(16),
        created_at=now,
        **content,
    )
    _settle(session, queue, assignment, choice, judged)
    more = {"assignment": assignment.id, "revision": stored.revision, "outcome": outcome_of(assignment)}
    append_row(session, "vote", annotator.name, stored, **more)
    return assignment, stored


def _settle(session: Session, queue: Queue, assignment: Assignment, choice: str, judged: int) -> None:
    """What the vote makes of the assignment; ``judged`` items were judged before."""
    if choice == "skip":
        queue.let_go(session, assignment, "skipped")
        return
    if assignment.nth is None:
        assignment.nth = judged + 1
    counts = assignment.kind != "regular" or assignment.repeat > 0 or queue.take_slot(session, assignment)
    assignment.state = "done" if counts else "late"


def correct(
    session: Session,
    annotator: Annotator,
    assignment_id: str,
    *,
    id: str,
    shown: Literal["1", "2"],
    text: str,
    active_ms: int | None,
    now: int,
) -> Correction:
    """Store an answer as the annotator rewrote it.

    Raises:
        Refusal: 404 for somebody else's assignment, 409 where the id stands for another correction, 422 for a text
            that is empty, unchanged or too long.
    """
    assignment = own(session, annotator, assignment_id)
    if assignment.kind == "practice":
        raise Refusal(403, "not_editable")
    text = text.replace("\r\n", "\n").replace("\x00", "").strip()
    answer = _canonical(shown, assignment.swapped)
    item = session.get_one(Item, assignment.item_id)
    original = item.answer_a if answer == "a" else item.answer_b
    content = {"assignment_id": assignment.id, "answer": answer, "text": text}
    if same := session.get(Correction, id):
        return _repeated(same, annotator, content)
    if not text or len(text) > LONGEST_CORRECTION:
        raise Refusal(422, "correction_empty" if not text else "correction_long")
    if text == original.replace("\r\n", "\n").strip():
        raise Refusal(422, "correction_same")
    last = session.scalar(_LAST_CORRECTION, {"assignment": assignment.id, "answer": answer})
    stored = Correction(
        id=id,
        item_id=item.id,
        annotator_id=annotator.id,
        revision=0 if last is None else last + 1,
        distance=edit_distance(original, text),
        active_ms=_plausible(active_ms),
        nonce=secrets.token_hex(16),
        created_at=now,
        **content,
    )
    append_row(session, "correction", annotator.name, stored, assignment=assignment.id)
    return stored


def report(
    session: Session, queue: Queue, annotator: Annotator, assignment_id: str, *, id: str, reason: str, now: int
) -> Report:
    """Store that an item should not be shown, and take it from the annotator's hands.

    Raises:
        Refusal: as :func:`vote`.
    """
    assignment = own(session, annotator, assignment_id)
    content = {"assignment_id": assignment.id, "reason": reason.replace("\x00", "").strip()[:2000]}
    if same := session.get(Report, id):
        return _repeated(same, annotator, content)
    stored = Report(
        id=id,
        item_id=assignment.item_id,
        annotator_id=annotator.id,
        nonce=secrets.token_hex(16),
        created_at=now,
        **content,
    )
    if assignment.state in ("leased", "expired"):  # an expired one would come back
        queue.let_go(session, assignment, "skipped")
    more = {"assignment": assignment.id, "outcome": outcome_of(assignment)}
    append_row(session, "report", annotator.name, stored, **more)
    return stored


def keep(session: Session, queue: Queue, annotator: Annotator, assignment_id: str, now: int) -> None:
    """Extend a lease that has not run out.

    Raises:
        Refusal: 404 for somebody else's assignment.
    """
    assignment = own(session, annotator, assignment_id)
    if assignment.state == "leased":
        assignment.leased_until = max(assignment.leased_until, now + queue.lease_ms)


def held_vote(session: Session, assignment_id: str) -> Vote | None:
    """The last revision of an assignment's vote."""
    query = select(Vote).where(Vote.assignment_id == assignment_id).order_by(Vote.revision.desc()).limit(1)
    return session.scalars(query).first()


def held_correction(session: Session, assignment_id: str, shown: Literal["1", "2"], swapped: bool) -> Correction | None:
    """The last revision of an answer's correction."""
    query = select(Correction).where(
        Correction.assignment_id == assignment_id, Correction.answer == _canonical(shown, swapped)
    )
    return session.scalars(query.order_by(Correction.revision.desc()).limit(1)).first()


def edit_distance(before: str, after: str) -> int:
    """Insertions, deletions and replacements of graphemes: what a reader counts as characters, in any script."""
    return int(Levenshtein.distance(regex.findall(r"\X", before), regex.findall(r"\X", after)))


def own(session: Session, annotator: Annotator, assignment_id: str) -> Assignment:
    """The annotator's own assignment of this id.

    Raises:
        Refusal: 404 for somebody else's assignment.
    """
    return _checked(session.get(Assignment, assignment_id), annotator)


def _checked(assignment: Assignment | None, annotator: Annotator) -> Assignment:
    if assignment is None or assignment.annotator_id != annotator.id:
        raise Refusal(404, "no_assignment")
    return assignment


def _repeated(row: _Row, annotator: Annotator, content: dict[str, Any]) -> _Row:
    """The row of an id that was sent again, if it says the same."""
    found: Any = row
    if found.annotator_id != annotator.id or any(getattr(found, field) != value for field, value in content.items()):
        raise Refusal(409, "other_content")
    return row


# Made once: building a statement costs as much as running it.
_LAST_VOTE = select(func.max(Vote.revision)).where(Vote.assignment_id == bindparam("assignment"))
_STANDING = (
    # The assignment, the vote of this id if it was sent before, the last revision, and how much was judged before.
    select(Assignment, Vote, _LAST_VOTE.scalar_subquery(), JUDGED.scalar_subquery())
    .outerjoin(Vote, Vote.id == bindparam("id"))
    .where(Assignment.id == bindparam("assignment"))
)
_LAST_CORRECTION = select(func.max(Correction.revision)).where(
    Correction.assignment_id == bindparam("assignment"), Correction.answer == bindparam("answer")
)


def _canonical(choice: str, swapped: bool) -> str:
    if choice not in ("1", "2"):
        return choice
    return "b" if (choice == "1") is swapped else "a"


def _plausible(active_ms: int | None) -> int | None:
    return None if active_ms is None or not 0 < active_ms <= _LONGEST_ACTIVE_MS else active_ms
