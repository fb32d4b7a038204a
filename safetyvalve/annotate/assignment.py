"""Who judges what next: leases with a time limit, exactly k counted votes an item, repeats and gold in between.

Everything here runs in a write transaction. The table's UNIQUE(item, slot) would refuse a k+1st counted vote even if
this code were wrong.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Select, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from safetyvalve.annotate.batches import drawn
from safetyvalve.annotate.models import Annotator, Assignment, Batch, Item

__all__ = ["REPEAT_GAP", "Queue", "judged", "practice_left", "waiting"]

REPEAT_GAP = 10
"""Judgments that lie between the first sight of an item and its repeat."""

# Statements of every page are made once: building one costs as much as running it.
_ME: BindParameter[Any] = bindparam("annotator")
_LATE_OR_MINE = (
    select(Assignment)
    .where(
        Assignment.state == "leased",
        or_(Assignment.leased_until < bindparam("now"), Assignment.annotator_id == _ME),
    )
    .order_by(Assignment.created_at, Assignment.id)
)
_SEEN = aliased(Assignment)
_OPEN = (
    # The annotator has had no judgment of the item; a lease that ran out does not count.
    select(Item, Batch, _SEEN)
    .outerjoin(Batch, Item.batch_id == Batch.id)
    .outerjoin(_SEEN, (_SEEN.item_id == Item.id) & (_SEEN.annotator_id == _ME) & (_SEEN.repeat == 0))
    .where(~Item.withdrawn, or_(_SEEN.id.is_(None), _SEEN.state == "expired"))
)
_NEXT_PRACTICE = (
    _OPEN.where(Item.kind == "practice", or_(Item.lang == bindparam("lang"), Item.lang.is_(None)))
    .order_by(Item.position)
    .limit(1)
)
_NEXT_GOLD = _OPEN.where(Item.kind == "gold", Batch.is_open, Batch.gold_every > 0).order_by(Item.position).limit(1)
_BATCHES = select(Batch).order_by(Batch.id)
_NEXT_NEW = (
    # One batch and one count at a time, so that the index ix_item_queue holds the answer in order: a page must not take
    # longer where more items wait.
    _OPEN.where(Item.kind == "regular", Item.batch_id == bindparam("batch"), Item.taken == bindparam("taken"))
    .order_by(Item.position)
    .limit(1)
)
_LATE_REPEAT = select(Assignment).where(
    Assignment.annotator_id == _ME, Assignment.repeat == 1, Assignment.state == "expired"
)
_NEXT_REPEAT = (
    select(Assignment)
    .join(Item)
    .join(Batch)
    .where(
        Assignment.annotator_id == _ME,
        Assignment.kind == "regular",
        Assignment.repeat == 0,
        Assignment.state == "done",
        Assignment.to_repeat,
        Assignment.nth <= bindparam("latest"),
        ~Item.withdrawn,
        Batch.is_open,
    )
    .order_by(Assignment.nth)
    .limit(1)
)
_SLOTS = select(Assignment.slot).where(Assignment.item_id == bindparam("item"), Assignment.slot.is_not(None))
_FIRST_SIGHTS = select(func.count(), func.count().filter(Assignment.swapped)).where(
    Assignment.annotator_id == _ME, Assignment.repeat == 0, Assignment.kind == bindparam("kind")
)
_JUDGED = select(func.count()).where(
    Assignment.annotator_id == _ME,
    Assignment.kind == "regular",
    Assignment.repeat == 0,
    Assignment.state.in_(("done", "late")),
)
_BEGUN = select(exists().where(Assignment.annotator_id == _ME, Assignment.kind == "regular"))


class _Candidate(NamedTuple):
    """An item that could be given out."""

    item: Item
    batch: Batch | None
    """None for practice, which belongs to no batch."""
    expired: Assignment | None
    """The annotator's lease of it that ran out."""


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
        current = self._current(session, annotator, now)
        if current is not None:
            item = session.get_one(Item, current.item_id)
            if not item.withdrawn:
                current.leased_until = now + self.lease_ms
                return current
            self.let_go(session, current, "expired")
        done = judged(session, annotator)
        if not done and (practice := practice_left(session, annotator, lang)):
            return self._lease(session, practice, annotator, now)
        batches = session.scalars(_BATCHES).all()
        return (
            self._gold(session, batches, annotator, done, now)
            or self._again(session, annotator, done, now)
            or self._new(session, batches, annotator, now)
        )

    def fresh_from(self, now: int) -> int:
        """A lease up to then or longer need not be extended by showing the item again."""
        return now + self.lease_ms // 2

    def _current(self, session: Session, annotator: Annotator, now: int) -> Assignment | None:
        """What lies open before the annotator; what nobody judged in time is taken back on the way."""
        current = None
        for assignment in session.scalars(_LATE_OR_MINE, {"now": now, "annotator": annotator.id}).all():
            if assignment.leased_until < now:
                self.let_go(session, assignment, "expired")
            else:
                current = current or assignment
        return current

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
        assignment.slot = self._slot(session, item, session.get_one(Batch, item.batch_id))
        session.flush()
        return assignment.slot is not None

    def _slot(self, session: Session, item: Item, batch: Batch) -> int | None:
        """Take the item's first free slot."""
        used = set(session.scalars(_SLOTS, {"item": item.id})) if item.taken else set()
        free = min(set(range(batch.overlap)) - used, default=None)
        if free is None or item.withdrawn:
            return None
        item.taken += 1
        return free

    def _gold(
        self, session: Session, batches: Sequence[Batch], annotator: Annotator, done: int, now: int
    ) -> Assignment | None:
        """One in each stretch of ``gold_every`` judgments, at a place drawn at random."""
        if not any(batch.gold_every for batch in batches):
            return None
        gold = _first(session, _NEXT_GOLD, annotator=annotator.id)
        if gold is None or gold.batch is None:
            return None
        every, seen = gold.batch.gold_every, self._sights(session, annotator, "gold")[0]
        place = seen * every + 1 + int(drawn(self.secret, "gold", annotator.id, seen) * every)
        return self._lease(session, gold, annotator, now) if done >= place else None

    def _again(self, session: Session, annotator: Annotator, done: int, now: int) -> Assignment | None:
        """A repeat whose first sight lies far enough back, or one whose lease ran out."""
        expired = session.scalars(_LATE_REPEAT, {"annotator": annotator.id}).first()
        if expired is not None:
            expired.state, expired.leased_until = "leased", now + self.lease_ms
            return expired
        latest = done - REPEAT_GAP
        if latest < 1:  # judgments are counted from 1
            return None
        first = session.scalars(_NEXT_REPEAT, {"annotator": annotator.id, "latest": latest}).first()
        if first is None:
            return None
        first.to_repeat = False
        again = self._made(first.item_id, annotator, now, repeat=1, swapped=not first.swapped)
        session.add(again)
        session.flush()
        return again

    def _new(self, session: Session, batches: Sequence[Batch], annotator: Annotator, now: int) -> Assignment | None:
        """An item with a free slot that this annotator has not judged; begun ones first, so that items get finished."""
        for batch in batches:
            for taken in reversed(range(batch.overlap if batch.is_open else 0)):
                new = _first(session, _NEXT_NEW, annotator=annotator.id, batch=batch.id, taken=taken)
                if new is not None:
                    return self._lease(session, new, annotator, now)
        return None

    def _lease(self, session: Session, candidate: _Candidate, annotator: Annotator, now: int) -> Assignment:
        item, batch, assignment = candidate
        if assignment is None:
            swapped = self._side(session, item, annotator)
            assignment = self._made(item.id, annotator, now, repeat=0, swapped=swapped, kind=item.kind)
            if item.kind == "regular" and batch is not None:
                assignment.to_repeat = drawn(self.secret, "repeat", item.id, annotator.id) < batch.repeat_share
            session.add(assignment)
        else:
            assignment.state, assignment.leased_until = "leased", now + self.lease_ms
        if item.kind == "regular" and batch is not None:
            assignment.slot = self._slot(session, item, batch)
            if assignment.slot is None:
                raise AssertionError(f"item {item.id} has no free slot, though it was chosen for having one")
        session.flush()
        return assignment

    def _made(
        self,
        item_id: str,
        annotator: Annotator,
        now: int,
        *,
        repeat: int,
        swapped: bool,
        kind: str = "regular",
    ) -> Assignment:
        return Assignment(
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

    def _side(self, session: Session, item: Item, annotator: Annotator) -> bool:
        """Efron's biased coin: the side that was rarer so far comes with probability 2/3.

        Each side is drawn, so no annotator can foretell it, and the difference of counts stays within a few.
        """
        total, swapped = self._sights(session, annotator, item.kind)
        difference = 2 * swapped - total
        threshold = 1 / 2 if difference == 0 else 1 / 3 if difference > 0 else 2 / 3
        return drawn(self.secret, "side", item.id, annotator.id, 0) < threshold

    def _sights(self, session: Session, annotator: Annotator, kind: str) -> tuple[int, int]:
        """How many items of a kind the annotator has seen, and how many of them with sides swapped; no repeats."""
        total, swapped = session.execute(_FIRST_SIGHTS, {"annotator": annotator.id, "kind": kind}).one()
        return total, swapped


def judged(session: Session, annotator: Annotator) -> int:
    """Regular items that the annotator has judged, repeats left out."""
    return session.scalar(_JUDGED, {"annotator": annotator.id}) or 0


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


def _first(session: Session, statement: Select[Item, Batch, Assignment], **values: Any) -> _Candidate | None:
    row = session.execute(statement, values).first()
    return _Candidate(*row) if row else None


def practice_left(session: Session, annotator: Annotator, lang: str) -> _Candidate | None:
    """The next practice item in the annotator's language; none for who has begun to judge."""
    if session.scalar(_BEGUN, {"annotator": annotator.id}):
        return None
    return _first(session, _NEXT_PRACTICE, annotator=annotator.id, lang=lang)
