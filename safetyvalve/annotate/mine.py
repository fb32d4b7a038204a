"""What an annotator may know of the own work: counts, last votes, and everything that is stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.assignment import waiting
from safetyvalve.annotate.models import Annotator, Assignment, Correction, Item, Report, Vote
from safetyvalve.annotate.tally import judged
from safetyvalve.annotate.views import shown_choice

__all__ = ["everything", "last_votes", "summary"]


def last_votes(session: Session, annotator: Annotator, limit: int | None = None) -> list[Vote]:
    """The votes that hold, the newest first; practice is among them."""
    newest = (
        select(Vote.assignment_id, func.max(Vote.revision).label("revision"))
        .where(Vote.annotator_id == annotator.id)
        .group_by(Vote.assignment_id)
        .subquery()
    )
    query = (
        select(Vote)
        .join(newest, (Vote.assignment_id == newest.c.assignment_id) & (Vote.revision == newest.c.revision))
        .order_by(Vote.created_at.desc(), Vote.id)
    )
    return list(session.scalars(query.limit(limit) if limit else query))


def summary(session: Session, annotator: Annotator) -> dict[str, Any]:
    """For the progress page. Gold items and repeats are not told from others."""
    votes = last_votes(session, annotator, 20)
    prompts: dict[str, Any] = {
        item.id: item.prompt for item in session.scalars(select(Item).where(Item.id.in_([v.item_id for v in votes])))
    }
    active = session.scalar(select(func.sum(Vote.active_ms)).where(Vote.annotator_id == annotator.id)) or 0
    editing = session.scalar(select(func.sum(Correction.active_ms)).where(Correction.annotator_id == annotator.id)) or 0
    corrected = select(func.count(func.distinct(Correction.assignment_id))).where(
        Correction.annotator_id == annotator.id
    )
    return {
        "done": judged(session, annotator),
        "left": waiting(session, annotator),
        "corrections": session.scalar(corrected) or 0,
        "minutes": round((int(active) + int(editing)) / 60_000),
        "last": [
            {
                "id": v.assignment_id,
                "choice": shown_choice(v.choice, v.swapped),
                "prompt": " ".join(prompts[v.item_id][-1]["content"].split())[:80],
            }
            for v in votes
        ],
    }


def everything(session: Session, annotator: Annotator) -> dict[str, Any]:
    """All that is stored about a person; choices and answers as they were shown, so that no model is named."""
    mine = select(Assignment.id, Assignment.swapped).where(Assignment.annotator_id == annotator.id)
    swapped = dict(session.execute(mine).all())
    votes = session.scalars(select(Vote).where(Vote.annotator_id == annotator.id).order_by(Vote.created_at))
    corrections = session.scalars(
        select(Correction).where(Correction.annotator_id == annotator.id).order_by(Correction.created_at)
    )
    reports = session.scalars(select(Report).where(Report.annotator_id == annotator.id).order_by(Report.created_at))
    return {
        "name": annotator.name,
        "created_at": annotator.created_at,
        "agreed_at": annotator.agreed_at,
        "votes": [
            {
                "id": v.id,
                "assignment": v.assignment_id,
                "choice": shown_choice(v.choice, v.swapped),
                "strength": v.strength,
                "tags": v.tags,
                "active_ms": v.active_ms,
                "created_at": v.created_at,
            }
            for v in votes
        ],
        "corrections": [
            {
                "id": c.id,
                "assignment": c.assignment_id,
                "answer": shown_choice(c.answer, swapped[c.assignment_id]),
                "text": c.text,
                "active_ms": c.active_ms,
                "created_at": c.created_at,
            }
            for c in corrections
        ],
        "reports": [
            {"id": r.id, "assignment": r.assignment_id, "reason": r.reason, "created_at": r.created_at} for r in reports
        ],
    }
