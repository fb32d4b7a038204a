"""Who judges what next: leases with a time limit, exactly k counted votes an item, repeats and gold in between.

Everything here runs in a write transaction. The table's UNIQUE(item, slot) would refuse a k+1st counted vote even if
this code were wrong.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BindParameter, Row, Select, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from safetyvalve.annotate.batches import drawn
from safetyvalve.annotate.models import Annotator, Assignment, Batch, Item
from safetyvalve.annotate.tally import Tally

__all__ = ["REPEAT_GAP", "Queue", "waiting"]

REPEAT_GAP = 10
"""Judgments that lie between the first sight of an item and its repeat."""

_Wanted = TypeVar("_Wanted", bound=Select[*tuple[Any, ...]])

# Statements of every page are made once: building one costs as much as running it.
_ME: BindParameter[Any] = bindparam("annotator")
_UNDER_WAY = (
    # What was leased to somebody and ran out, what the annotator holds, and the annotator's repeats that ran out.
    select(Assignment)
    .where(
        or_(
            and_(
                Assignment.state == "leased",
                or_(Assignment.leased_until < bindparam("now"), Assignment.annotator_id == _ME),
            ),
            and_(
                Assignment.annotator_id == _ME,
                Assignment.kind == "regular",
                Assignment.repeat == 1,
                Assignment.state == "expired",
            ),
        )
    )
    .order_by(Assignment.created_at, Assignment.id)
)
_SEEN = aliased(Assignment)


def _unseen(wanted: _Wanted, item: Any, seen: Any) -> _Wanted:
    """Of items that the annotator has had no judgment of; a lease that ran out does not count."""
    mine = (seen.item_id == item.id) & (seen.annotator_id == _ME) & (seen.repeat == 0)
    return wanted.outerjoin(seen, mine).where(~item.withdrawn, or_(seen.id.is_(None), seen.state == "expired"))


_OPEN = _unseen(select(Item, Batch, _SEEN).outerjoin(Batch, Item.batch_id == Batch.id), Item, _SEEN)
_NEXT_PRACTICE = (
    _OPEN.where(Item.kind == "practice", or_(Item.lang == bindparam("lang"), Item.lang.is_(None)))
    .order_by(Item.position)
    .limit(1)
)
_NEXT_GOLD = _OPEN.where(Item.kind == "gold", Batch.is_open, Batch.gold_every > 0).order_by(Item.position).limit(1)
_GOLD = aliased(Item)
_BATCHES = select(
    Batch, exists().where(_GOLD.kind == "gold", ~_GOLD.withdrawn, _GOLD.batch_id == Batch.id).correlate(Batch)
).order_by(Batch.id)


@cache
def _next_new(overlap: int) -> Select[Item, Batch, Assignment]:
    """One item of a batch: of those begun most often the one whose turn it is.

    One batch and one count at a time, so that the index ix_item_queue holds the answer in order: a page must not take
    longer where more items wait. The counts after the first that has an item are not looked at.
    """
    item, seen = aliased(Item), aliased(Assignment)
    of_count = (
        _unseen(select(item.id), item, seen)
        .where(item.kind == "regular", item.batch_id == bindparam("batch"))
        .order_by(item.position)
        .limit(1)
    )
    counts = [of_count.where(item.taken == taken).scalar_subquery() for taken in reversed(range(overlap))]
    return _OPEN.where(Item.id == (func.coalesce(*counts) if overlap > 1 else counts[0]))


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


class _Candidate(NamedTuple):
    """An item that could be given out."""

    item: Item
    batch: Batch | None
    """None for practice, which belongs to no batch."""
    expired: Assignment | None
    """The annotator's lease of it that ran out."""


class _Turn(NamedTuple):
    """One look for what an annotator judges next."""

    session: Session
    annotator: Annotator
    tally: Tally
    now: int

    def first(self, statement: Select[Item, Batch, Assignment], **values: Any) -> _Candidate | None:
        row = self.session.execute(statement, {"annotator": self.annotator.id, **values}).first()
        return _Candidate(*row) if row else None


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
        current, late = self._under_way(session, annotator, now)
        if current is not None:
            item = session.get_one(Item, current.item_id)
            if not item.withdrawn:
                current.leased_until = now + self.lease_ms
                return current
            self.let_go(session, current, "expired")
        turn = _Turn(session, annotator, Tally.of(session, annotator), now)
        if not turn.tally.seen("regular"):  # who has begun to judge practises no more
            practice = turn.first(_NEXT_PRACTICE, lang=lang)
            if practice is not None:
                return self._lease(turn, practice)
        batches = session.execute(_BATCHES).all()
        return self._gold(turn, batches) or self._again(turn, late) or self._new(turn, batches)

    def fresh_from(self, now: int) -> int:
        """A lease up to then or longer need not be extended by showing the item again."""
        return now + self.lease_ms // 2

    def _under_way(
        self, session: Session, annotator: Annotator, now: int
    ) -> tuple[Assignment | None, list[Assignment]]:
        """What lies open before the annotator, and repeats that did and ran out.

        What nobody judged in time is taken back on the way.
        """
        current, late = None, []
        for assignment in session.scalars(_UNDER_WAY, {"now": now, "annotator": annotator.id}).all():
            if assignment.state == "leased" and assignment.leased_until < now:
                self.let_go(session, assignment, "expired")
            if assignment.state == "leased":
                current = current or assignment
            elif assignment.repeat and assignment.annotator_id == annotator.id:
                late.append(assignment)
        return current, late

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

    def _gold(self, turn: _Turn, batches: Sequence[Row[Batch, bool]]) -> Assignment | None:
        """One in each stretch of ``gold_every`` judgments, at a place drawn at random."""
        done, seen = turn.tally.judged, turn.tally.seen("gold")
        share = drawn(self.secret, "gold", turn.annotator.id, seen)

        def is_due(every: int) -> bool:
            return every > 0 and done >= seen * every + 1 + int(share * every)

        if not any(has_gold and is_due(batch.gold_every) for batch, has_gold in batches):
            return None
        gold = turn.first(_NEXT_GOLD)
        if gold is None or gold.batch is None or not is_due(gold.batch.gold_every):
            return None
        return self._lease(turn, gold)

    def _again(self, turn: _Turn, late: Sequence[Assignment]) -> Assignment | None:
        """A repeat whose first sight lies far enough back, or one whose lease ran out."""
        for expired in late:
            if not turn.session.get_one(Item, expired.item_id).withdrawn:
                expired.state, expired.leased_until = "leased", turn.now + self.lease_ms
                return expired
        latest = turn.tally.judged - REPEAT_GAP
        if latest < 1 or not turn.tally.to_repeat:  # judgments are counted from 1
            return None
        values = {"annotator": turn.annotator.id, "latest": latest}
        first = turn.session.scalars(_NEXT_REPEAT, values).first()
        if first is None:
            return None
        first.to_repeat = False
        again = self._made(first.item_id, turn, repeat=1, swapped=not first.swapped)
        turn.session.add(again)
        turn.session.flush()
        return again

    def _new(self, turn: _Turn, batches: Sequence[Row[Batch, bool]]) -> Assignment | None:
        """An item with a free slot that this annotator has not judged; begun ones first, so that items get finished."""
        for batch, _ in batches:
            new = turn.first(_next_new(batch.overlap), batch=batch.id) if batch.is_open else None
            if new is not None:
                return self._lease(turn, new)
        return None

    def _lease(self, turn: _Turn, candidate: _Candidate) -> Assignment:
        session = turn.session
        item, batch, assignment = candidate
        if assignment is None:
            swapped = self._side(turn, item)
            assignment = self._made(item.id, turn, repeat=0, swapped=swapped, kind=item.kind)
            if item.kind == "regular" and batch is not None:
                assignment.to_repeat = drawn(self.secret, "repeat", item.id, turn.annotator.id) < batch.repeat_share
            session.add(assignment)
        else:
            assignment.state, assignment.leased_until = "leased", turn.now + self.lease_ms
        if item.kind == "regular" and batch is not None:
            assignment.slot = self._slot(session, item, batch)
            if assignment.slot is None:
                raise AssertionError(f"item {item.id} has no free slot, though it was chosen for having one")
        session.flush()
        return assignment

    def _made(
        self,
        item_id: str,
        turn: _Turn,
        *,
        repeat: int,
        swapped: bool,
        kind: str = "regular",
    ) -> Assignment:
        return Assignment(
            id=uuid.uuid4().hex,
            item_id=item_id,
            annotator_id=turn.annotator.id,
            kind=kind,
            repeat=repeat,
            state="leased",
            swapped=swapped,
            leased_until=turn.now + self.lease_ms,
            created_at=turn.now,
        )

    def _side(self, turn: _Turn, item: Item) -> bool:
        """Efron's biased coin: the side that was rarer so far comes with probability 2/3.

        Each side is drawn, so no annotator can foretell it, and the difference of counts stays within a few.
        """
        difference = 2 * turn.tally.swapped(item.kind) - turn.tally.seen(item.kind)
        threshold = 1 / 2 if difference == 0 else 1 / 3 if difference > 0 else 2 / 3
        return drawn(self.secret, "side", item.id, turn.annotator.id, 0) < threshold


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
