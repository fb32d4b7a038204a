"""The event log: what `annotate verify` finds, on copies of history that somebody rewrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from safetyvalve.annotate import Database, Head
from safetyvalve.annotate.events import _hash, head
from safetyvalve.annotate.models import Annotator, Assignment, Event, Item, Report, Vote
from safetyvalve.annotate.people import erase
from safetyvalve.hashing import canonical, digest
from tests.annotate.material import Person, invite, new_id, problems, write_answers

Serve = Callable[..., Any]


@pytest.fixture
def voted(serve: Serve, database: Database, tmp_path: Path) -> Head:
    """A database with votes and corrections; its head as an export would keep it."""
    rows = [{"prompt": f"P{i}", "responses": {"m": "x", "n": "y"}} for i in range(4)]
    one = Person(serve(write_answers(tmp_path / "answers.jsonl", rows)), database)
    assignments = one.judge_all("1")
    one.post(f"/judge/{assignments[0]}/correct", id=new_id(), answer="1", text="better")
    with database.read() as session:
        return head(session)


def test_clean_log_verifies(database: Database, voted: Head) -> None:
    assert voted.seq > 10
    assert problems(database) == []
    assert problems(database, voted) == []
    invite(database)  # history may go on
    assert problems(database, voted) == []


def test_an_earlier_head_is_not_a_later_one(database: Database, voted: Head) -> None:
    assert problems(database, Head(voted.seq + 1, voted.hash)) == [
        f"the log ends at event {voted.seq}, before the exported head {voted.seq + 1}"
    ]
    assert "the log was rewritten" in problems(database, Head(voted.seq, "0" * 64))[0]


@pytest.mark.parametrize("column", ["payload", "actor", "kind", "at", "hash", "previous"])
def test_a_changed_event(database: Database, voted: Head, column: str) -> None:
    value: Any = 1 if column == "at" else "changed"
    with database.write() as session:
        session.execute(update(Event).where(Event.seq == 5).values({column: value}))
    assert any("event 5" in p or "event 6" in p for p in problems(database))


def test_a_removed_event(database: Database, voted: Head) -> None:
    with database.write() as session:
        session.execute(delete(Event).where(Event.seq == 5))
    assert "event 5 is missing" in problems(database)


def test_a_cut_log_is_found_by_the_head_alone(database: Database, voted: Head) -> None:
    """The last events and their rows are removed: what is left is a consistent, shorter history."""
    with database.write() as session:
        last = session.scalars(select(Event).order_by(Event.seq.desc()).limit(1)).one()
        assert last.kind == "correction"
        session.execute(text("DELETE FROM correction"))
        session.delete(last)
    assert problems(database) == []
    assert problems(database, voted) == [f"the log ends at event {voted.seq - 1}, before the exported head {voted.seq}"]


def test_appended_then_rewritten(database: Database, voted: Head) -> None:
    """History goes on, then the whole chain is computed anew around a changed vote: only the kept head tells."""
    invite(database)
    with database.write() as session:
        vote = session.scalars(select(Vote).limit(1)).one()
        vote.choice = "tie"
        session.flush()
        from safetyvalve.annotate.events import record_of

        previous = "0" * 64
        for event in session.scalars(select(Event).order_by(Event.seq)):
            payload = json.loads(event.payload)
            if event.kind == "vote" and payload["id"] == vote.id:
                payload["digest"] = digest(record_of(vote))
            event.payload, event.previous = canonical(payload), previous
            event.hash = previous = _hash(event.seq, event.at, event.actor, event.kind, event.payload, previous)
    assert problems(database) == []  # against itself it is in order
    assert problems(database, voted) == [f"event {voted.seq} is not the one that was exported: the log was rewritten"]


def test_rows_that_the_log_vouches_for(database: Database, voted: Head) -> None:
    with database.read() as session:
        votes = session.scalars(select(Vote).order_by(Vote.created_at, Vote.id)).all()
        item = session.scalars(select(Item).limit(1)).one()
    with database.write() as session:
        session.execute(update(Vote).where(Vote.id == votes[0].id).values(choice="tie"))
        session.execute(delete(Vote).where(Vote.id == votes[1].id))
        session.execute(update(Item).where(Item.id == item.id).values(answer_a="other"))
        row = {c.key: getattr(votes[2], c.key) for c in Vote.__table__.columns}
        session.execute(insert(Vote).values(row | {"id": new_id(), "revision": 1}))
    found = problems(database)
    assert f"vote {votes[0].id} was changed after it was stored" in found
    assert f"vote {votes[1].id} was removed without an event" in found
    assert f"item {item.id} was changed after it was stored" in found
    assert any("was added without an event" in p for p in found)
    assert len(found) == 4


def test_decisions_that_the_log_vouches_for(serve: Serve, database: Database, voted: Head, tmp_path: Path) -> None:
    """What takes a vote out of the results without touching it is found, and done on the pages it is in order."""
    app = serve()
    one, admin = Person(app, database), Person(app, database, "admin")
    serve(write_answers(tmp_path / "more.jsonl", [{"prompt": "Q", "responses": {"m": "x", "n": "y"}}]))
    item = one.item()
    assert item
    one.post(f"/judge/{item['assignment']}/report", id=new_id(), reason="")
    with database.read() as session:
        report = session.scalars(select(Report)).one()
        first, second = session.scalars(select(Item.id).where(Item.id != report.item_id).limit(2))
        counted = session.scalars(select(Assignment.id).where(Assignment.state == "done").limit(2)).all()
    admin.post(f"/admin/reports/{report.id}", decision="withdrawn")
    for action in ("withdraw", "restore", "withdraw"):
        admin.post(f"/admin/items/{first}", action=action)
    assert problems(database, voted) == []
    with database.write() as session:
        session.execute(update(Item).where(Item.id == first).values(withdrawn=False))
        session.execute(update(Item).where(Item.id == second).values(withdrawn=True))
        session.execute(update(Report).values(resolved="kept"))
        session.execute(update(Assignment).where(Assignment.id == counted[0]).values(state="late", slot=None))
    assert sorted(problems(database)) == sorted(
        [
            f"item {first} was restored without an event",
            f"item {second} was withdrawn without an event",
            f"report {report.id} was resolved or reopened without an event",
            f"assignment {counted[0]} was changed: it is ['late', False], and the log says ['done', True]",
        ]
    )


def test_erasure_is_an_event_and_the_chain_holds(database: Database, voted: Head) -> None:
    with database.write() as session:
        person = session.scalars(select(Annotator).where(Annotator.role == "annotator")).one()
        assert erase(session, person, actor="test", now=1) == {"vote": 4, "correction": 1, "report": 0}
    assert problems(database, voted) == []
    with database.read() as session:
        assert session.scalars(select(Vote)).all() == []
        assert session.scalars(select(Assignment)).all() == []
        assert set(session.scalars(select(Item.taken))) == {0}
        assert "better" not in " ".join(session.scalars(select(Event.payload)))
