"""What an administrator does to people: stop them, sign them in again, erase what they gave."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from safetyvalve.annotate.events import append
from safetyvalve.annotate.models import Annotator, Assignment, Correction, Invite, Item, Login, Report, Vote
from safetyvalve.annotate.refusals import Refusal

__all__ = ["erase", "stop"]


def stop(session: Session, annotator: Annotator, *, actor: str, now: int) -> None:
    """End someone's access; what they gave stays."""
    annotator.is_active = False
    session.execute(delete(Login).where(Login.annotator_id == annotator.id))
    session.execute(update(Invite).where(Invite.annotator_id == annotator.id).values(revoked=True))
    _free(session, Assignment.annotator_id == annotator.id, Assignment.state == "leased")
    append(session, "stopped", actor, {"name": annotator.name}, at=now)


def erase(session: Session, annotator: Annotator, *, actor: str, now: int) -> dict[str, int]:
    """Remove an annotator's votes, corrections, reports and sign-ins; returns how many of each.

    The log keeps digests (salted with a number that is erased too) and the random name, which then names nobody.
    Items judged by this annotator become free again.

    Raises:
        Refusal: 403 for others than annotators: what they did is the server's record.
    """
    if annotator.role != "annotator":
        raise Refusal(403, "role")
    stop(session, annotator, actor=actor, now=now)
    rows: dict[str, list[str]] = {}
    for kind, table in (("vote", Vote), ("correction", Correction), ("report", Report)):
        rows[kind] = list(session.scalars(select(table.id).where(table.annotator_id == annotator.id)))
        session.execute(delete(table).where(table.annotator_id == annotator.id))
    _free(session, Assignment.annotator_id == annotator.id, Assignment.slot.is_not(None))
    mine = session.scalars(select(Assignment.id).where(Assignment.annotator_id == annotator.id))
    erased = rows | {"assignment": list(mine)}
    session.execute(delete(Assignment).where(Assignment.annotator_id == annotator.id))
    session.execute(delete(Invite).where(Invite.annotator_id == annotator.id))
    session.execute(delete(Annotator).where(Annotator.id == annotator.id))
    append(session, "erased", actor, {"name": annotator.name, "rows": erased}, at=now)
    return {kind: len(ids) for kind, ids in rows.items()}


def _free(session: Session, *which: object) -> None:
    for assignment in session.scalars(select(Assignment).where(*which)):  # type: ignore[arg-type]
        if assignment.slot is not None:
            session.execute(update(Item).where(Item.id == assignment.item_id).values(taken=Item.taken - 1))
        assignment.slot, assignment.state = None, "expired"
    session.flush()
