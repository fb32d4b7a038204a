"""Who gets what: exactly k, leases, sides, repeats, gold."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import IntegrityError

from safetyvalve.annotate import Database, Rules, auth
from safetyvalve.annotate.assignment import REPEAT_GAP, Queue
from safetyvalve.annotate.models import Annotator, Assignment, Item, Vote
from safetyvalve.annotate.votes import Ballot, vote
from tests.annotate.material import new_id, problems, write_answers

Serve = Callable[..., Any]


def fill(serve: Serve, folder: Path, n: int, rules: Rules, **more: Any) -> Queue:
    rows = [{"prompt": f"P{i}", "responses": {"m-1": f"x{i}", "m-2": f"y{i}"}, **more} for i in range(n)]
    queue: Queue = serve(write_answers(folder / "answers.jsonl", rows), rules=rules).state.site.queue
    return queue


def join(database: Database, n: int = 1) -> list[int]:
    """New annotators."""
    found = []
    for _ in range(n):
        with database.write() as session:
            token = auth.invite(session, "annotator", actor="test", now=0, days=1)
            found.append(auth.accept(session, token, 1).annotator.id)
    return found


def step(database: Database, queue: Queue, annotator: int, now: int, choice: Any = "1") -> Assignment | None:
    """Take the next item in one transaction and judge it in another."""
    with database.write() as session:
        assignment = queue.next(session, session.get_one(Annotator, annotator), "en", now)
    if assignment is not None:
        with database.write() as session:
            vote(session, queue, session.get_one(Annotator, annotator), assignment.id, Ballot(new_id(), choice), now)
    return assignment


def test_exactly_k_with_many_at_once(serve: Serve, database: Database, tmp_path: Path) -> None:
    queue = fill(serve, tmp_path, 12, Rules(3, 0, 0))
    annotators = join(database, 6)
    failures: list[BaseException] = []

    def work(annotator: int) -> None:
        try:
            while step(database, queue, annotator, 10) is not None:
                pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(a,)) for a in annotators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as session:
        counted = Counter(session.scalars(select(Assignment.item_id).where(Assignment.slot.is_not(None))))
        assert set(counted.values()) == {3}
        assert len(counted) == 12
        assert session.scalar(select(func.count()).select_from(Vote)) == 36
        assert set(session.scalars(select(Item.taken))) == {3}
    assert problems(database) == []


def test_the_database_itself_refuses_a_second_holder_of_a_slot(
    serve: Serve, database: Database, tmp_path: Path
) -> None:
    queue = fill(serve, tmp_path, 1, Rules(1, 0, 0))
    one, two = join(database, 2)
    held = step(database, queue, one, 10)
    assert held
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(
            Assignment(
                id="0" * 32,
                item_id=held.item_id,
                annotator_id=two,
                kind="regular",
                slot=0,
                state="done",
                swapped=False,
                leased_until=0,
                created_at=0,
            )
        )
        session.flush()


def test_lease_runs_out_and_comes_back(serve: Serve, database: Database, tmp_path: Path) -> None:
    queue = fill(serve, tmp_path, 1, Rules(1, 0, 0))
    one, two = join(database, 2)

    def take(annotator: int, now: int) -> Assignment | None:
        with database.write() as session:
            return queue.next(session, session.get_one(Annotator, annotator), "en", now)

    first = take(one, 0)
    assert first
    assert take(one, 10) is not None
    assert take(one, 10).id == first.id  # type: ignore[union-attr]
    assert take(two, queue.lease_ms) is None  # the second look extended the lease
    second = take(two, queue.lease_ms + 11)
    assert second is not None
    assert take(one, queue.lease_ms + 12) is None
    back = take(one, 3 * queue.lease_ms)
    assert back
    assert (back.id, back.swapped) == (first.id, first.swapped)


def test_repeats_are_swapped_spaced_and_not_counted(serve: Serve, database: Database, tmp_path: Path) -> None:
    queue = fill(serve, tmp_path, 20, Rules(1, 1.0, 0))
    (one,) = join(database)
    seen = []
    while (assignment := step(database, queue, one, 10)) is not None:
        seen.append((assignment.item_id, assignment.repeat, assignment.swapped, assignment.slot))
    firsts = {item: (place, swapped) for place, (item, repeat, swapped, _) in enumerate(seen) if repeat == 0}
    repeats = [(place, item, swapped) for place, (item, repeat, swapped, _) in enumerate(seen) if repeat == 1]
    assert len(firsts) == 20
    assert len(repeats) == 20 - REPEAT_GAP  # the last ones would come too soon after their first sight
    for place, item, swapped in repeats:
        assert swapped is not firsts[item][1]
        assert place - firsts[item][0] >= REPEAT_GAP
    with database.read() as session:
        assert set(session.scalars(select(Assignment.slot).where(Assignment.repeat == 1))) == {None}
        assert {v.repeat for v in session.scalars(select(Vote))} == {0, 1}


def test_gold_comes_about_once_in_so_many(serve: Serve, database: Database, tmp_path: Path) -> None:
    queue = fill(serve, tmp_path, 24, Rules(1, 0, 4))
    gold = [{"prompt": f"G{i}", "responses": {"m": "r", "n": "w"}, "expected": "a"} for i in range(20)]
    serve(write_answers(tmp_path / "gold.jsonl", gold), rules=Rules(1, 0, 4))
    (one,) = join(database)
    kinds = []
    while (assignment := step(database, queue, one, 10)) is not None:
        kinds.append(assignment.kind)
    assert kinds.count("regular") == 24
    assert 5 <= kinds.count("gold") <= 7
    assert kinds[0] == "regular"


def test_sides_are_balanced_drawn_and_stored(serve: Serve, database: Database, tmp_path: Path) -> None:
    queue = fill(serve, tmp_path, 50, Rules(2, 0, 0))
    courses = []
    for annotator in join(database, 2):
        sides = []
        while (assignment := step(database, queue, annotator, 10)) is not None:
            sides.append(assignment.swapped)
        assert len(sides) == 50
        # Efron's coin: the difference has standard deviation of about 1.7 at its limit; 10 is far outside.
        assert abs(2 * sum(sides) - 50) <= 10
        courses.append(sides)
    assert courses[0] != courses[1]
    assert all(0 < sum(a == b for a, b in pairwise(c)) < 49 for c in courses)  # not alternating


def test_a_long_queue_is_not_sorted_for_each_page(serve: Serve, database: Database, tmp_path: Path) -> None:
    if not database.is_sqlite:
        pytest.skip("the plan of PostgreSQL follows its statistics")
    queue, [one] = fill(serve, tmp_path, 5, Rules(2, 0, 0)), join(database)
    seen: list[tuple[str, Any]] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda _c, _k, sql, values, _x, _m: seen.append((sql, values))
    )
    step(database, queue, one, 10)
    choosing = [(sql, values) for sql, values in seen if "coalesce(" in sql]
    assert choosing
    with database.engine.connect() as connection:
        for sql, values in choosing:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
            assert not any("TEMP B-TREE" in row[3] for row in plan), plan
            assert sum("USING INDEX ix_item_queue" in row[3] for row in plan) == 2, plan  # for each count


def test_a_repeat_that_ran_out_comes_back_unless_its_item_was_withdrawn(
    serve: Serve, database: Database, tmp_path: Path
) -> None:
    queue, [one] = fill(serve, tmp_path, 13, Rules(1, 1, 0)), join(database)
    for _ in range(11):
        first = step(database, queue, one, 10)
        assert first is not None and first.repeat == 0

    def look(now: int) -> Assignment | None:
        with database.write() as session:
            return queue.next(session, session.get_one(Annotator, one), "en", now)

    again = look(10)
    assert again is not None and again.repeat == 1
    later = 10 + queue.lease_ms + 1
    assert (back := look(later)) is not None and back.id == again.id
    with database.write() as session:
        session.get_one(Item, again.item_id).withdrawn = True
    for now in (later, 3 * later):
        found = look(now)
        assert found is not None and found.item_id != again.item_id


def test_gold_of_each_batch_comes_at_its_own_rate(serve: Serve, database: Database, tmp_path: Path) -> None:
    """One batch has no gold rate: its gold item is not shown, however often the other's is due."""
    from safetyvalve.annotate.models import Batch

    queue, [one] = fill(serve, tmp_path, 12, Rules(1, 0, 0)), join(database)
    with database.write() as session:
        batch = session.scalars(select(Batch)).one()
        other = Batch(**{c.key: getattr(batch, c.key) for c in Batch.__table__.columns if c.key not in ("id", "key")})
        other.key, other.gold_every, other.name = "other", 3, "other"
        session.add(other)
        session.flush()
        items = session.scalars(select(Item).where(Item.batch_id == batch.id).order_by(Item.position)).all()
        for item, home in ((items[0], batch.id), (items[1], other.id)):
            item.kind, item.batch_id, item.expected = "gold", home, "a"
        wanted = items[1].id
    seen = []
    while (assignment := step(database, queue, one, 10)) is not None:
        seen.append(assignment)
    assert [a.item_id for a in seen if a.kind == "gold"] == [wanted]
    place = [a.kind for a in seen].index("gold")
    assert 1 <= place <= 3  # drawn within the first stretch of three, after the first judgment
    assert len(seen) == 11


def test_closed_batches_give_nothing(serve: Serve, database: Database, tmp_path: Path) -> None:
    from safetyvalve.annotate.batches import change_rules
    from safetyvalve.annotate.models import Batch
    from safetyvalve.errors import UsageError

    queue = fill(serve, tmp_path, 3, Rules(2, 0, 0))
    one, two = join(database, 2)
    assert step(database, queue, one, 10)
    assert step(database, queue, two, 10)
    with database.write() as session:
        batch = session.scalars(select(Batch)).one()
        with pytest.raises(UsageError, match="with 2 annotators already"):
            change_rules(session, batch, Rules(1, 0, 0), is_open=True, actor="test")
        change_rules(session, batch, Rules(3, 0, 0), is_open=False, actor="test")
    assert step(database, queue, one, 10) is None
