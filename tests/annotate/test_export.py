"""Votes and corrections as files: ours, TRL's, statistics', and back into a database."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from safetyvalve.annotate import Database, Rules, export_files
from safetyvalve.annotate.archive import import_archive
from safetyvalve.annotate.export import write_export
from safetyvalve.annotate.models import Annotator, Item
from safetyvalve.cli import main
from safetyvalve.data import load_preferences
from safetyvalve.errors import DataError, RunError, UsageError
from safetyvalve.release.labour import read_judging
from safetyvalve.stats import read_verdicts
from safetyvalve.stats.verdicts import Verdict
from tests.annotate.material import Person, make_run, new_id, problems, write_answers

Serve = Callable[..., Any]


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


def files_of(database: Database, **options: Any) -> dict[str, bytes]:
    with database.read() as session:
        return export_files(session, **options)


def prefer(person: Person, good: str) -> dict[str, str] | None:
    """Judge the next item for the answer that says ``good``; returns the item with the side it was on."""
    item = person.item()
    if item is None:
        return None
    answers = item["page"].split('<section class="answer"')[1:]
    side = "1" if good in answers[0] else "2"
    body = {"id": new_id(), "assignment": item["assignment"], "choice": side, "active_ms": 2500, "strength": 2}
    assert person.client.post("/api/votes", json=body, headers={"x-csrf-token": item["csrf"]}).status_code == 200
    return item | {"side": side}


@pytest.fixture
def voted(serve: Serve, database: Database, tmp_path: Path) -> list[str]:
    """Two annotators, four items: agreement, disagreement, a tie, a skipped one; an edit; gold. Returns their names."""
    rows = [{"prompt": f"Say {i}.", "responses": {"new-1": f"good {i}", "old-1": f"bad {i}"}} for i in range(4)]
    rows.append({"prompt": "G", "responses": {"new-1": "good g", "old-1": "bad g"}, "expected": "a"})
    app = serve(write_answers(tmp_path / "answers.jsonl", rows), rules=Rules(2, 0, 1))
    one, two = Person(app, database), Person(app, database)
    while (item := prefer(one, "good")) is not None:
        if "Say 0." in item["page"]:
            one.post(
                f"/judge/{item['assignment']}/correct",
                id=new_id(),
                answer=item["side"],
                text="best 0",
                active_ms="9000",
            )
    while (item := two.item()) is not None:
        if "Say 1." in item["page"]:
            two.vote("tie")
        elif "Say 2." in item["page"]:
            two.post(f"/judge/{item['assignment']}", id=new_id(), then="skip")
        else:
            prefer(two, "bad")
    with database.read() as session:
        return list(session.scalars(select(Annotator.name).where(Annotator.role == "annotator").order_by(Annotator.id)))


def test_train_reads_the_preferences(database: Database, voted: list[str], tmp_path: Path) -> None:
    files = files_of(database)
    (tmp_path / "p.jsonl").write_bytes(files["preferences.jsonl"])
    loaded = load_preferences(tmp_path / "p.jsonl", max_drop=0)
    assert loaded.report.form == "comparisons"
    assert len(loaded.examples) == 4
    by_prompt = {e.prompt[-1].content: e for e in loaded.examples}
    first = by_prompt["Say 0."]
    assert [r.content for r in first.responses] == ["good 0", "bad 0", "best 0"]
    found = {(c.winner, c.loser, c.weight, c.annotator) for c in first.comparisons}
    assert found == {(0, 1, 1.0, voted[0]), (1, 0, 1.0, voted[1]), (2, 0, 1.0, voted[0])}
    assert [(c.winner, c.loser) for c in by_prompt["Say 1."].comparisons] == [(0, 1)]
    manifest = json.loads(files["manifest.json"])
    assert manifest["left_out"] == {"votes: gold": 2, "votes: skipped": 1, "votes: tie": 1}


def test_provenance_and_pseudonyms(database: Database, voted: list[str]) -> None:
    rows = lines(files_of(database)["preferences.jsonl"])
    for row in rows:
        assert [s["run"] for s in row["provenance"]["sources"]] == ["new-1", "old-1"]
        assert row["provenance"]["inclusion_probability"] == 1
        assert {c["annotator"] for c in row["comparisons"]} <= set(voted)
    (edit,) = next(r for r in rows if r["provenance"]["edits"])["provenance"]["edits"]
    assert edit == {"response": 2, "of": 0, "annotator": voted[0], "edit_distance": 4, "active_seconds": 9.0}


def test_trl_forms(database: Database, voted: list[str]) -> None:
    files = files_of(database)
    pairs, sft = lines(files["pairs.jsonl"]), lines(files["sft.jsonl"])
    assert len(pairs) == 7
    best = next(p for p in pairs if p["chosen"][0]["content"] == "best 0")
    assert best["rejected"] == [{"role": "assistant", "content": "good 0"}]
    assert [s["completion"] for s in sft] == [[{"role": "assistant", "content": "best 0"}]]
    assert sft[0]["prompt"] == [{"role": "user", "content": "Say 0."}]


def test_weights(database: Database, voted: list[str]) -> None:
    def weights(**options: Any) -> set[float]:
        rows = lines(files_of(database, **options)["preferences.jsonl"])
        row = next(r for r in rows if r["prompt"][0]["content"] == "Say 3.")
        return {(c["annotator"], c["weight"]) for c in row["comparisons"]}  # type: ignore[misc]

    assert weights() == {(voted[0], 1.0), (voted[1], 1.0)}
    assert weights(weigh="item") == {(voted[0], 0.5), (voted[1], 0.5)}
    # One gold item each: right, so (1 + 1) / 3; wrong, so (0 + 1) / 3.
    assert weights(weigh="gold") == {(voted[0], 2 / 3), (voted[1], 1 / 3)}
    assert weights(weights={voted[1]: 0.25}) == {(voted[0], 1.0), (voted[1], 0.25)}
    for bad in (0, -1, float("inf"), True, "1"):
        with pytest.raises(UsageError, match="a number above 0"):
            weights(weights={voted[0]: bad})
    with pytest.raises(UsageError, match="who did not judge"):
        weights(weights={"annotator-0": 1})


def test_verdicts_for_statistics(database: Database, voted: list[str]) -> None:
    verdicts = [Verdict.model_validate_json(v) for v in files_of(database)["verdicts.jsonl"].splitlines()]
    assert len(verdicts) == 10
    assert {(v.model_a, v.model_b) for v in verdicts} == {("new-1", "old-1")}
    assert sorted(v.verdict for v in verdicts if v.rater == voted[0]) == ["a"] * 5
    assert sorted(v.verdict for v in verdicts if v.rater == voted[1]) == ["b", "b", "b", "none", "tie"]
    assert sum(v.gold for v in verdicts) == 2
    assert {v.seconds for v in verdicts if v.rater == voted[0]} == {2.5}
    assert {v.position for v in verdicts} <= {"a_first", "b_first"}


def test_csv(database: Database, voted: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(files_of(database)["votes.csv"].decode("utf-8-sig"))))
    assert len(rows) == 10
    assert {r["annotator"] for r in rows} == set(voted)


def test_repeats_late_and_withdrawn_do_not_train(
    serve: Serve, database: Database, tmp_path: Path, voted: list[str]
) -> None:
    with database.write() as session:
        for item in session.scalars(select(Item).where(Item.kind == "regular")):
            item.withdrawn = True
    files = files_of(database)
    assert files["preferences.jsonl"] == b""
    left_out = json.loads(files["manifest.json"])["left_out"]
    assert left_out["votes: item withdrawn"] == 7


def test_same_database_same_bytes_and_back(
    database: Database, voted: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Export, import into an empty database of either kind, export: equal byte for byte, and the log verifies."""
    files = files_of(database)
    assert files == files_of(database)
    manifest = json.loads(files["manifest.json"])
    for name, value in manifest["sha256"].items():
        assert hashlib.sha256(files[name]).hexdigest() == value
    write_export(files, tmp_path / "out")
    other = Database(
        str(tmp_path / "other.db")
        if not database.is_sqlite
        else request.getfixturevalue("postgres").new_database("other")
    )
    with other.write() as session:
        counts = import_archive(session, tmp_path / "out")
    assert counts["vote"] == 10
    assert files_of(other) == files
    assert problems(other) == []
    with pytest.raises(DataError, match="needs an empty database"), other.write() as session:
        import_archive(session, tmp_path / "out")
    other.close()


def test_a_changed_export_is_refused(database: Database, voted: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_export(files_of(database), out)
    archive = out / "archive.jsonl"
    archive.write_bytes(archive.read_bytes().replace(b"best 0", b"worst 0"))
    empty = Database(str(tmp_path / "empty.db"))
    with pytest.raises(DataError, match="SHA-256 differs"), empty.write() as session:
        import_archive(session, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["sha256"]["archive.jsonl"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="does not verify: correction"), empty.write() as session:
        import_archive(session, out)
    empty.close()


def test_no_folder_is_overwritten(database: Database, voted: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="not an empty folder"):
        write_export(files_of(database), tmp_path)


def test_command_line(place: str, voted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["annotate", "export", str(out), "--db", place, "--weigh", "item"]) == 0
    printed = capsys.readouterr().out
    assert "preferences.jsonl: 4 rows" in printed
    assert "left out of preferences: votes: tie: 1" in printed
    head = printed.rstrip().rpartition(" ")[2]
    assert main(["annotate", "verify", "--db", place, "--head", head]) == 0
    assert main(["annotate", "verify", "--db", place, "--head", "1:" + "0" * 64]) == 1
    assert "the log was rewritten" in capsys.readouterr().out
    assert main(["annotate", "import", str(out), "--db", str(tmp_path / "new.db")]) == 0
    assert main(["annotate", "verify", "--db", str(tmp_path / "new.db"), "--head", head]) == 0
    assert main(["annotate", "forget", voted[0], "--db", place]) == 0
    assert "5 votes, 1 corrections, 0 reports erased" in capsys.readouterr().out
    assert main(["annotate", "verify", "--db", place, "--head", head]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "--db", "nothing.db"], "does not exist"),
        (["verify", "--db", "mysql://x/y"], "accepted: a file, sqlite:///FILE or postgresql://USER@HOST/NAME"),
        (["verify", "--db", "postgresql://nobody@127.0.0.1:9/x"], "cannot be used"),
        (["serve", "nothing"], "does not exist"),
        (["serve", "--overlap", "0"], "overlap is 0"),
        (["serve", "--host", "0.0.0.0"], "give --public-url"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    extra = ["--port", "0"] if arguments[0] == "serve" else []
    assert main(["annotate", *arguments, *extra]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_admin_downloads_the_same_files(serve: Serve, database: Database, voted: list[str]) -> None:
    admin = Person(serve(), database, "admin")
    answer = admin.post("/admin/export", status=200, weigh="vote")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("preferences.jsonl") == files_of(database)["preferences.jsonl"]
        assert json.loads(archive.read("manifest.json"))["rows"]["verdicts.jsonl"] == 10
    assert problems(database) == []


def test_people_and_judges_name_a_pair_alike(serve: Serve, database: Database, tmp_path: Path) -> None:
    """Their verdicts join by item, also where a run answered a prompt several times."""
    runs = [make_run(tmp_path / name, prompts=3, n=2) for name in ("run-a", "run-b")]
    person = Person(serve(*runs, rules=Rules(1, 0, 0)), database)
    person.judge_all()
    people = [Verdict.model_validate_json(v) for v in files_of(database)["verdicts.jsonl"].splitlines()]
    output = tmp_path / "judge.jsonl"
    assert main(["judge", *map(str, runs), "--judge", "fake", "--output", str(output)]) == 0
    judges = read_verdicts(output).verdicts
    last = {v.item_id: v for v in people if "step 10" in v.model_a}
    assert len(last) == 6
    assert last.keys() == {v.item_id for v in judges}
    for verdict in judges:
        mine = last[verdict.item_id]
        assert verdict.prompt_id == mine.prompt_id
        assert {verdict.model_a, verdict.model_b} == {mine.model_a, mine.model_b}


def test_the_return_reads_the_work_from_an_export(database: Database, voted: list[str], tmp_path: Path) -> None:
    """Person one: five votes of 2.5 s and a correction of 9 s; person two: 2.5 s where a script sent the time."""
    write_export(files_of(database), tmp_path / "out")
    found = read_judging([tmp_path / "out"])
    timed = [v for v in lines((tmp_path / "out" / "archive.jsonl").read_bytes()) if v["table"] == "vote"]
    known = [v["active_ms"] for v in timed if v["active_ms"] is not None]
    assert set(known) == {2500} and 0 < len(known) < len(timed)
    assert found.hours == pytest.approx((2.5 * len(timed) + 9) / 3600)  # votes without a time at the mean of the others
    assert (found.people, found.votes, found.corrections) == (2, len(timed), 1)
    assert found.untimed == len(timed) - len(known)
    assert found.edit_minutes is not None and found.edit_minutes.estimate == pytest.approx(9 / 60)
    assert (found.answers, found.corrected) == (2 * len(timed), 1)
