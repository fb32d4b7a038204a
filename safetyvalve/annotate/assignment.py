"""Who judges what next: leases with a time limit, exactly k counted votes an item, repeats and gold in between.

Everything here runs in a write transaction. The table's UNIQUE(item, slot) would refuse a k+1st counted vote even if
this code were wrong.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session

from safetyvalve.annotate.batches import drawn
from safetyvalve.annotate.models import Annotator, Assignment, Batch, Item

__all__ = ["REPEAT_GAP", "Queue", "judged", "practice_left", "waiting"]

REPEAT_GAP = 10
"""Judgments that lie between the first sight of an item and its repeat."""


class Queue(NamedTuple):
    """Gives out items.

    Args:
        secret: of the database; draws sides and repeats.
        lease_ms: how long an item stays with an annotator who does nothing.
    """

    secret: bytes
    lease_ms: int

    def next(self, session: Session, annotator: Annotator, lang: str, now: int) -> Assignment | None:
        """What the annotator judges now: what lies open, practice, gold, a repeat, or a new item; None if all is done.

        Asked again without a vote, the answer is the same.
        """
        self.expire(session, now)
        current = session.scalars(
            select(Assignment)
            .where(Assignment.annotator_id == annotator.id, Assignment.state == "leased")
            .order_by(Assignment.created_at, Assignment.id)
            .limit(1)
        ).first()
        if current is not None:
            item = session.get_one(Item, current.item_id)
            if not item.withdrawn:
                current.leased_until = now + self.lease_ms
                return current
            self.let_go(session, current, "expired")
        if item_ := practice_left(session, annotator, lang):
            return self._lease(session, item_, annotator, now)
        done = judged(session, annotator)
        return (
            self._gold(session, annotator, done, now)
            or self._again(session, annotator, done, now)
            or self._new(session, annotator, now)
        )

    def expire(self, session: Session, now: int) -> None:
        """Take back what nobody judged in time."""
        late = session.scalars(
            select(Assignment).where(Assignment.state == "leased", Assignment.leased_until < now)
        ).all()
        for assignment in late:
            self.let_go(session, assignment, "expired")

    def let_go(self, session: Session, assignment: Assignment, state: str) -> None:
        """End a lease and free its slot."""
        assignment.state, freed = state, assignment.slot is not None
        assignment.slot = None
        if freed:
            session.execute(update(Item).where(Item.id == assignment.item_id).values(taken=Item.taken - 1))
        session.flush()

    def take_slot(self, session: Session, assignment: Assignment) -> bool:
        """Whether a slot was had already or is now."""
        if assignment.slot is not None:
            return True
        item = session.get_one(Item, assignment.item_id, populate_existing=True)
        batch = session.get_one(Batch, item.batch_id)
        used = set(
            session.scalars(select(Assignment.slot).where(Assignment.item_id == item.id, Assignment.slot.is_not(None)))
        )
        free = min(set(range(batch.overlap)) - used, default=None)
        if free is None or item.withdrawn:
            return False
        assignment.slot = free
        session.execute(update(Item).where(Item.id == item.id).values(taken=Item.taken + 1))
        session.flush()
        return True

    def _gold(self, session: Session, annotator: Annotator, done: int, now: int) -> Assignment | None:
        """One in each stretch of ``gold_every`` judgments, at a place drawn at random."""
        for item, every in session.execute(
            select(Item, Batch.gold_every)
            .join(Batch)
            .where(Item.kind == "gold", ~Item.withdrawn, Batch.is_open, Batch.gold_every > 0, _not_seen(annotator))
            .order_by(Item.position)
            .limit(1)
        ):
            seen = _count(session, annotator, "gold", 0)
            place = seen * every + 1 + int(drawn(self.secret, "gold", annotator.id, seen) * every)
            if done >= place:
                return self._lease(session, item, annotator, now)
        return None

    def _again(self, session: Session, annotator: Annotator, done: int, now: int) -> Assignment | None:
        """A repeat whose first sight lies far enough back, or one whose lease ran out."""
        expired = session.scalars(
            select(Assignment).where(
                Assignment.annotator_id == annotator.id, Assignment.repeat == 1, Assignment.state == "expired"
            )
        ).first()
        if expired is not None:
            expired.state, expired.leased_until = "leased", now + self.lease_ms
            return expired
        first = session.scalars(
            select(Assignment)
            .join(Item)
            .join(Batch)
            .where(
                Assignment.annotator_id == annotator.id,
                Assignment.kind == "regular",
                Assignment.repeat == 0,
                Assignment.state == "done",
                Assignment.to_repeat,
                Assignment.nth <= done - REPEAT_GAP,
                ~Item.withdrawn,
                Batch.is_open,
            )
            .order_by(Assignment.nth)
            .limit(1)
        ).first()
        if first is None:
            return None
        first.to_repeat = False
        return self._store(session, first.item_id, annotator, now, repeat=1, swapped=not first.swapped)

    def _new(self, session: Session, annotator: Annotator, now: int) -> Assignment | None:
        """An item with a free slot that this annotator has not judged; begun ones first, so that items get finished."""
        item = session.scalars(
            select(Item)
            .join(Batch)
            .where(
                Item.kind == "regular", ~Item.withdrawn, Batch.is_open, Item.taken < Batch.overlap, _not_seen(annotator)
            )
            .order_by(Batch.id, Item.taken.desc(), Item.position)
            .limit(1)
        ).first()
        return self._lease(session, item, annotator, now) if item else None

    def _lease(self, session: Session, item: Item, annotator: Annotator, now: int) -> Assignment:
        assignment = session.scalars(
            select(Assignment).where(
                Assignment.item_id == item.id, Assignment.annotator_id == annotator.id, Assignment.repeat == 0
            )
        ).first()
        if assignment is None:
            swapped = self._side(session, item, annotator)
            assignment = self._store(session, item.id, annotator, now, repeat=0, swapped=swapped, kind=item.kind)
            if item.kind == "regular":
                share = session.get_one(Batch, item.batch_id).repeat_share
                assignment.to_repeat = drawn(self.secret, "repeat", item.id, annotator.id) < share
        else:  # it had expired
            assignment.state, assignment.leased_until = "leased", now + self.lease_ms
        if item.kind == "regular" and not self.take_slot(session, assignment):
            raise AssertionError(f"item {item.id} has no free slot, though it was chosen for having one")
        session.flush()
        return assignment

    def _store(
        self,
        session: Session,
        item_id: str,
        annotator: Annotator,
        now: int,
        *,
        repeat: int,
        swapped: bool,
        kind: str = "regular",
    ) -> Assignment:
        assignment = Assignment(
            id=uuid.uuid4().hex,
            item_id=item_id,
            annotator_id=annotator.id,
            kind=kind,
            repeat=repeat,
            state="leased",
            swapped=swapped,
            leased_until=now + self.lease_ms,
            created_at=now,
        )
        session.add(assignment)
        session.flush()
        return assignment

    def _side(self, session: Session, item: Item, annotator: Annotator) -> bool:
        """Efron's biased coin: the side that was rarer so far comes with probability 2/3.

        Each side is drawn, so no annotator can foretell it, and the difference of counts stays within a few.
        """
        mine = (Assignment.annotator_id == annotator.id, Assignment.repeat == 0, Assignment.kind == item.kind)
        total, swapped = session.execute(
            select(func.count(), func.count().filter(Assignment.swapped)).where(*mine)
        ).one()
        difference = 2 * swapped - total
        threshold = 1 / 2 if difference == 0 else 1 / 3 if difference > 0 else 2 / 3
        return drawn(self.secret, "side", item.id, annotator.id, 0) < threshold


def judged(session: Session, annotator: Annotator) -> int:
    """Regular items that the annotator has judged, repeats left out."""
    return _count(session, annotator, "regular", 0, ("done", "late"))


def waiting(session: Session, annotator: Annotator) -> int:
    """Regular items that could still come to the annotator, if nobody else took them first."""
    mine = exists().where(
        Assignment.item_id == Item.id,
        Assignment.annotator_id == annotator.id,
        Assignment.state.in_(("done", "skipped", "late")),
    )
    held = exists().where(
        Assignment.item_id == Item.id, Assignment.annotator_id == annotator.id, Assignment.state == "leased"
    )
    query = (
        select(func.count())
        .select_from(Item)
        .join(Batch)
        .where(Item.kind == "regular", ~Item.withdrawn, Batch.is_open, ~mine, or_(Item.taken < Batch.overlap, held))
    )
    return session.scalar(query) or 0


def _count(
    session: Session, annotator: Annotator, kind: str, repeat: int, states: tuple[str, ...] | None = None
) -> int:
    query = select(func.count()).where(
        Assignment.annotator_id == annotator.id, Assignment.kind == kind, Assignment.repeat == repeat
    )
    if states:
        query = query.where(Assignment.state.in_(states))
    return session.scalar(query) or 0


def _not_seen(annotator: Annotator) -> ColumnElement[bool]:
    """The annotator has had no judgment of the item; a lease that ran out does not count."""
    return ~exists().where(
        Assignment.item_id == Item.id, Assignment.annotator_id == annotator.id, Assignment.state != "expired"
    )


def practice_left(session: Session, annotator: Annotator, lang: str) -> Item | None:
    """The next practice item in the annotator's language; none for who has begun to judge."""
    begun = exists().where(Assignment.annotator_id == annotator.id, Assignment.kind == "regular")
    if session.scalar(select(begun)):
        return None
    return session.scalars(
        select(Item)
        .where(Item.kind == "practice", ~Item.withdrawn, or_(Item.lang == lang, Item.lang.is_(None)))
        .where(_not_seen(annotator))
        .order_by(Item.position)
        .limit(1)
    ).first()
