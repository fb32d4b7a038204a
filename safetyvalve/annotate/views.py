"""An assignment as an annotator may see it: answers in the order drawn, identity words hidden, no source anywhere."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from markupsafe import Markup
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.blinding import Mask
from safetyvalve.annotate.models import Annotator, Assignment, Batch, Item, Vote
from safetyvalve.annotate.rendering import render
from safetyvalve.annotate.votes import LONGEST_CORRECTION

__all__ = [
    "ShownAnswer",
    "ShownTurn",
    "Sight",
    "Subject",
    "as_shown",
    "find_subject",
    "open_subject",
    "shown_choice",
    "subject_of",
]

MASKED_ROLES = ("system", "assistant")
"""Turns of the prompt that may give away a model; the user's words are the question and stay."""


class ShownAnswer(NamedTuple):
    html: Markup
    masked: int
    empty: bool


class ShownTurn(NamedTuple):
    role: str
    html: Markup


class Subject(NamedTuple):
    """An assignment with what it is about; usable after its transaction."""

    assignment: Assignment
    item: Item
    batch: Batch | None


def subject_of(session: Session, assignment: Assignment) -> Subject:
    """Costs nothing where the session has met item and batch already."""
    item = session.get_one(Item, assignment.item_id)
    return Subject(assignment, item, session.get_one(Batch, item.batch_id) if item.batch_id is not None else None)


_OWN = (
    select(Assignment, Item, Batch)
    .join(Item, Assignment.item_id == Item.id)
    .outerjoin(Batch, Item.batch_id == Batch.id)
    .where(Assignment.annotator_id == bindparam("annotator"))
)
_FOUND = _OWN.where(Assignment.id == bindparam("assignment"))
_LYING_OPEN = (
    _OWN.where(Assignment.state == "leased", Assignment.leased_until >= bindparam("until"), ~Item.withdrawn)
    .order_by(Assignment.created_at, Assignment.id)
    .limit(1)
)


def find_subject(session: Session, annotator: Annotator, assignment_id: str) -> Subject | None:
    """The annotator's own assignment of this id, with what it is about."""
    row = session.execute(_FOUND, {"annotator": annotator.id, "assignment": assignment_id}).first()
    return Subject(*row) if row else None


def open_subject(session: Session, annotator: Annotator, until: int) -> Subject | None:
    """What lies open before the annotator at least ``until`` (milliseconds since 1970), if anything does."""
    row = session.execute(_LYING_OPEN, {"annotator": annotator.id, "until": until}).first()
    return Subject(*row) if row else None


class Sight:
    """What a page shows of an item.

    Args:
        subject: what :func:`subject_of` found.
        mask: hides identity words.
    """

    def __init__(self, subject: Subject, mask: Mask) -> None:
        assignment, item, batch = subject
        self.id, self.kind, self.swapped = assignment.id, assignment.kind, assignment.swapped
        self._prompt: list[dict[str, str]] = item.prompt
        self._texts = (item.answer_b, item.answer_a) if assignment.swapped else (item.answer_a, item.answer_b)
        self._mask = mask
        masked = any(mask(text)[1] for text in self._texts)
        long = max(map(len, self._texts)) > LONGEST_CORRECTION
        allowed = batch is not None and batch.may_correct
        self.editable = self.kind != "practice" and allowed and not masked and not long

    def prompt(self) -> list[ShownTurn]:
        return [
            ShownTurn(t["role"], render(self._mask(t["content"])[0] if t["role"] in MASKED_ROLES else t["content"]))
            for t in self._prompt
        ]

    def answers(self) -> list[ShownAnswer]:
        found = []
        for text in self._texts:
            shown, masked = self._mask(text)
            found.append(ShownAnswer(render(shown), masked, not text.strip()))
        return found

    def text(self, shown: Literal["1", "2"]) -> str:
        """An answer as it was given, for correcting; only where :attr:`editable`."""
        return self._texts[int(shown) - 1]


def shown_choice(choice: str, swapped: bool) -> str:
    """A stored choice as the page says it: ``a`` is 1 unless the sides were swapped."""
    return {"a": "12", "b": "21"}[choice][swapped] if choice in ("a", "b") else choice


def as_shown(vote: Vote | None) -> dict[str, Any] | None:
    """A stored vote for filling the form again."""
    if vote is None:
        return None
    return {"choice": shown_choice(vote.choice, vote.swapped), "strength": vote.strength, "tags": vote.tags}
