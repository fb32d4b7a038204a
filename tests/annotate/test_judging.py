"""The annotator's pages without scripts: guideline, practice, votes, corrections, reports, progress."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from safetyvalve.annotate import Database, Rules
from safetyvalve.annotate.events import milliseconds
from safetyvalve.annotate.models import Assignment, Correction, Item, Report, Vote
from safetyvalve.annotate.practice import PRACTICE
from safetyvalve.annotate.votes import edit_distance
from tests.annotate.material import Person, make_run, new_id, problems, write_answers

Serve = Callable[..., Any]


def votes(database: Database) -> list[Vote]:
    with database.read() as session:
        return list(session.scalars(select(Vote).order_by(Vote.created_at, Vote.revision)))


@pytest.fixture
def app(serve: Serve, tmp_path: Path) -> Any:
    return serve(make_run(tmp_path / "run-a", prompts=4), make_run(tmp_path / "run-b", prompts=4), rules=Rules(2, 0, 0))


def test_guideline_comes_first_then_practice_with_feedback(serve: Serve, database: Database, tmp_path: Path) -> None:
    app = serve(make_run(tmp_path / "run-a"), make_run(tmp_path / "run-b"), practice=True)
    one = Person(app, database, agree=False)
    assert one.get("/judge").headers["location"] == "/guideline"
    page = one.get("/guideline").text
    assert "may be upsetting" in page
    assert "No name, no address" in page
    one.post("/guideline", agreed="", status=422)
    one.post("/guideline", agreed="yes")
    for _ in range(3):
        item = one.item()
        assert item
        assert "Practice" in item["page"]
        answer = one.client.post(
            f"/judge/{item['assignment']}", data={"csrf": item["csrf"], "id": item["id"], "choice": "tie"}
        )
        told = one.get(answer.headers["location"]).text
        assert "Expected:" in told
    item = one.item()
    assert item
    assert "Practice" not in item["page"]
    assert "0 judged" in item["page"]


def test_practice_follows_the_language(serve: Serve, database: Database) -> None:
    one = Person(serve(practice=True), database)
    assert "首都はどこですか" in one.client.get("/judge?lang=ja").text
    assert 'lang="ja"' in one.get("/judge").text  # kept in a cookie


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_practice_comes_in_its_order(
    serve: Serve, database: Database, lang: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the clock stands still, or goes back, while it is stored."""
    ticks = iter(range(100, 0, -1))
    monkeypatch.setattr("safetyvalve.annotate.batches.milliseconds", lambda: 5 * (next(ticks) // 5))
    one = Person(serve(practice=True), database)
    one.get(f"/judge?lang={lang}")
    for pair in PRACTICE[lang]:
        item = one.item()
        assert item
        assert pair.prompt[0]["content"] in item["page"]
        one.vote()


def test_switching_the_language_stays_on_the_page(app: Any, database: Database) -> None:
    one, admin = Person(app, database), Person(app, database, "admin")

    def switch(page: str) -> str:
        return html.unescape(re.search(r'hreflang="ja" href="([^"]+)"', page)[1])  # type: ignore[index]

    key = one.vote()
    place = switch(one.get(f"/judge/{key}/correct?answer=2").text)
    assert place == f"/judge/{key}/correct?answer=2&lang=ja"
    assert 'name="answer" value="2"' in one.get(place).text
    one.get("/judge?lang=en")
    links = admin.client.post("/admin/invites", data={"csrf": admin.csrf("/admin"), "role": "annotator"})
    assert admin.client.get(switch(links.text)).headers["location"] == "/admin"  # the form's own address has no page
    assert 'lang="ja"' in admin.get("/admin").text
    assert switch(one.get("http://127.0.0.1:8471//evil.example/x").text) == "/evil.example/x?lang=ja"


def test_a_vote_is_stored_as_canonical_sides(app: Any, database: Database) -> None:
    one = Person(app, database)
    assignments = one.judge_all("1")
    assert len(assignments) == 8  # four prompts at two steps
    with database.read() as session:
        for assignment, vote in session.execute(select(Assignment, Vote).join(Vote)):
            assert vote.choice == ("b" if assignment.swapped else "a")
            assert vote.swapped is assignment.swapped
            assert (vote.strength, vote.tags, vote.active_ms) == (None, [], None)
    assert problems(database) == []


def test_strength_tags_and_time(app: Any, database: Database) -> None:
    one = Person(app, database)
    one.vote("2", strength="3", tags=["safe", "correct", "made-up"], active_ms="4200")
    one.vote("tie", strength="3", tags=["clear"], active_ms="")
    first, second = votes(database)
    assert (first.strength, first.tags, first.active_ms) == (3, ["correct", "safe"], 4200)
    assert (second.choice, second.strength, second.active_ms) == ("tie", None, None)


def test_sent_twice_is_stored_once(app: Any, database: Database) -> None:
    one = Person(app, database)
    item = one.item()
    assert item
    body = {"id": item["id"], "assignment": item["assignment"], "choice": "1"}
    headers = {"x-csrf-token": item["csrf"]}
    answers = [one.client.post("/api/votes", json=body, headers=headers) for _ in range(3)]
    assert [a.status_code for a in answers] == [200] * 3
    assert len(votes(database)) == 1
    other = one.client.post("/api/votes", json=body | {"choice": "2"}, headers=headers)
    assert other.status_code == 409
    assert len(votes(database)) == 1


def test_undo_is_a_new_revision(app: Any, database: Database) -> None:
    one = Person(app, database)
    assignment = one.vote("1")
    saved = one.get(f"/judge?saved={assignment}").text
    assert f'href="/judge/{assignment}"' in saved
    again = one.get(f"/judge/{assignment}").text
    assert 'value="1" data-key="1" required checked' in again
    one.post(f"/judge/{assignment}", id=new_id(), choice="both_bad")
    assert [(v.revision, v.choice) for v in votes(database)][-1] == (1, "both_bad")
    assert [v.revision for v in votes(database)] == [0, 1]
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Assignment.slot.is_not(None), Assignment.state == "done")) == 1


def test_skipped_goes_to_somebody_else(serve: Serve, database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": f"P{i}", "responses": {"m": "x", "n": "y"}} for i in range(3)]
    app = serve(write_answers(tmp_path / "answers.jsonl", rows))
    one, two = Person(app, database), Person(app, database)
    for _ in range(3):
        item = one.item()
        assert item
        one.post(f"/judge/{item['assignment']}", id=new_id(), then="skip")
    assert one.item() is None
    assert len(two.judge_all("tie")) == 3


def test_late_vote_counts_only_where_a_slot_is_free(serve: Serve, database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": "P", "responses": {"m": "x", "n": "y"}}, {"prompt": "Q", "responses": {"m": "x", "n": "y"}}]
    app = serve(write_answers(tmp_path / "answers.jsonl", rows))
    slow, quick = Person(app, database), Person(app, database)
    item = slow.item()
    assert item
    app.state.site.clock = lambda: 2 * 3600 * 1000 + __import__("time").time_ns() // 1_000_000
    done = quick.judge_all("1")
    assert len(done) == 2  # the one that the slow annotator left, too
    answer = slow.post(f"/judge/{item['assignment']}", id=new_id(), choice="2")
    assert "somebody else had taken the item" in slow.get(answer.headers["location"]).text
    with database.read() as session:
        assert session.get_one(Assignment, item["assignment"]).state == "late"
        assert session.scalars(select(Item.taken)).all() == [1, 1]
        assert len(session.scalars(select(Vote)).all()) == 3  # nothing is thrown away


def test_correction(serve: Serve, database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": "時刻は？", "responses": {"m": "三時です👨‍👩‍👧。", "n": "わからない"}}]
    app = serve(write_answers(tmp_path / "answers.jsonl", rows))
    one = Person(app, database)
    item = one.item()
    assert item
    swapped = item["page"].index("わからない") < item["page"].index("三時")
    choice = "2" if swapped else "1"
    answer = one.post(f"/judge/{item['assignment']}", id=new_id(), choice=choice, then="correct")
    editor = one.get(answer.headers["location"]).text
    assert "三時です👨‍👩‍👧。</textarea>" in editor
    same = {"id": new_id(), "answer": choice, "text": "三時です👨‍👩‍👧。"}
    one.post(f"/judge/{item['assignment']}/correct", status=422, **same)
    one.post(f"/judge/{item['assignment']}/correct", status=422, **same | {"text": "  "})
    sent = {"id": new_id(), "answer": choice, "text": "四時です🙂。", "active_ms": "61000"}
    for _ in range(2):
        answer = one.post(f"/judge/{item['assignment']}/correct", **sent)
    shown = one.get(answer.headers["location"]).text
    assert "2 characters changed" in shown
    assert "<del>三</del><ins>四</ins>" in shown
    with database.read() as session:
        stored = session.scalars(select(Correction)).one()
        assert (stored.answer, stored.text, stored.distance, stored.active_ms) == ("a", "四時です🙂。", 2, 61000)
    assert problems(database) == []


def test_edit_distance_counts_graphemes() -> None:
    assert edit_distance("", "") == 0
    assert edit_distance("がぎ", "か\u3099ぎ") == 1  # composed and decomposed are different texts, one grapheme each
    assert edit_distance("👨‍👩‍👧a", "a") == 1
    assert edit_distance("kitten", "sitting") == 3


def test_report_takes_the_item_away(app: Any, database: Database) -> None:
    one, admin = Person(app, database), Person(app, database, "admin")
    item = one.item()
    assert item
    one.post(f"/judge/{item['assignment']}/report", id=new_id(), reason="=HYPERLINK(1) <b>bad</b>\u202eesrever")
    following = one.item()
    assert following
    assert following["assignment"] != item["assignment"]
    page = admin.get("/admin").text
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "\u202e" not in page
    with database.read() as session:
        report = session.scalars(select(Report)).one()
    admin.post(f"/admin/reports/{report.id}", decision="withdrawn")
    with database.read() as session:
        assert session.get_one(Item, report.item_id).withdrawn
    assert "bad&lt;" not in admin.get("/admin").text
    assert problems(database) == []


def test_reported_after_its_time_it_does_not_come_back(app: Any, database: Database) -> None:
    one = Person(app, database)
    item = one.item()
    assert item
    app.state.site.clock = lambda: milliseconds() + 2 * 3600 * 1000
    Person(app, database).item()  # somebody asks, and the lease is found to have run out
    one.client.post(f"/judge/{item['assignment']}/report", data={"csrf": item["csrf"], "id": new_id()})
    assert item["assignment"] not in one.judge_all()
    assert problems(database) == []


def test_withdrawn_while_in_hand(app: Any, database: Database) -> None:
    one, admin = Person(app, database), Person(app, database, "admin")
    item = one.item()
    assert item
    with database.read() as session:
        key = session.get_one(Assignment, item["assignment"]).item_id
    admin.post(f"/admin/items/{key}", action="withdraw")
    after = one.item()
    assert after
    assert after["assignment"] != item["assignment"]


def test_progress_and_own_data(app: Any, database: Database) -> None:
    one = Person(app, database)
    one.vote("1", active_ms="120000")
    page = one.get("/progress").text
    assert "<dd>1</dd>" in page
    assert "2 min" in page
    data = one.get("/progress/mine.json").json()
    assert [v["choice"] for v in data["votes"]] == ["1"]
    assert data["name"] in page


def test_database_does_not_answer(app: Any, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, nothing stored, and what was typed comes back."""
    from safetyvalve.annotate import judge_pages
    from safetyvalve.annotate.database import Busy

    one = Person(app, database)
    item = one.item()
    assert item
    real = judge_pages.vote

    def locked(*_: object) -> None:
        raise Busy("database is locked")

    monkeypatch.setattr(judge_pages, "vote", locked)
    sent = {"csrf": item["csrf"], "id": item["id"], "choice": "2", "strength": "1"}
    answer = one.client.post(f"/judge/{item['assignment']}", data=sent)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert 'name="choice" value="2"' in answer.text
    assert f'value="{item["id"]}"' in answer.text
    assert votes(database) == []
    monkeypatch.setattr(judge_pages, "vote", real)
    assert one.client.post(f"/judge/{item['assignment']}", data=sent).status_code == 303
    assert len(votes(database)) == 1


def test_the_next_item_is_chosen_with_the_vote(app: Any, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One writer's turn a judgment: the page after it only reads."""
    one = Person(app, database)
    assignment = one.vote("1")
    with database.read() as session:
        leased = session.scalars(select(Assignment.id).where(Assignment.state == "leased")).all()
    assert len(leased) == 1

    def nobody_writes(*_: object) -> None:
        raise AssertionError("the page took a writer's turn")

    monkeypatch.setattr(database, "write", nobody_writes)
    page = one.get(f"/judge?saved={assignment}").text
    assert f'action="/judge/{leased[0]}"' in page
    assert f'href="/judge/{assignment}"' in page


def test_a_page_extends_a_lease_that_is_half_over(app: Any, database: Database) -> None:
    one = Person(app, database)
    item = one.item()
    assert item
    with database.write() as session:
        lease = session.get_one(Assignment, item["assignment"])
        lease.leased_until -= app.state.site.queue.lease_ms // 2
        short = lease.leased_until
    assert one.item()["assignment"] == item["assignment"]
    with database.read() as session:
        assert session.get_one(Assignment, item["assignment"]).leased_until > short


def test_results_tell_samples_of_one_run_apart(serve: Serve, database: Database, tmp_path: Path) -> None:
    """As `safetyvalve stats` names them; "a run against itself" would be no comparison."""
    app = serve(make_run(tmp_path / "run-a", prompts=2, steps=(0,), n=2), pairing="samples")
    Person(app, database).judge_all()
    page = Person(app, database, "reviewer").get("/results").text
    assert "run-a step 0 #0 : run-a step 0 #1" in page
