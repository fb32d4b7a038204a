"""Pairs from runs, finished and training, and from files; what is drawn and with which probability."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from safetyvalve.annotate import Database, Source
from safetyvalve.annotate.models import Item, Scan
from safetyvalve.annotate.sources import read_pairs
from safetyvalve.annotate.watch import look
from safetyvalve.errors import DataError, RunError, UsageError
from tests.annotate.material import make_run, write_answers, write_step

Serve = Callable[..., Any]


def pairs(source: Source) -> dict[str, list[tuple[str, str]]]:
    return {key: [(p.a.text, p.b.text) for p in found] for key, found in read_pairs(source, set())}


def test_runs_meet_at_the_steps_they_share(tmp_path: Path) -> None:
    one = make_run(tmp_path / "run-1", prompts=2, steps=(0, 10, 20))
    two = make_run(tmp_path / "run-2", prompts=2, steps=(0, 10))
    found = pairs(Source.of([one, two]))
    assert set(found) == {"step 0", "step 10"}
    assert ("Answer 0.0 of 1 at 10.", "Answer 0.0 of 2 at 10.") in found["step 10"]


def test_one_run_meets_its_start_or_its_own_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", prompts=2, steps=(0, 10, 20), n=3)
    assert {k: len(v) for k, v in pairs(Source.of([run])).items()} == {"run-1 step 10": 6, "run-1 step 20": 6}
    within = pairs(Source.of([run], "samples"))
    assert {k: len(v) for k, v in within.items()} == {f"run-1 step {s}": 6 for s in (0, 10, 20)}


def test_new_samples_join_while_it_trains(serve: Serve, database: Database, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", prompts=3, steps=(0,))
    app = serve(run)

    def count() -> int:
        with database.read() as session:
            return session.scalar(select(func.count()).select_from(Item)) or 0

    assert count() == 0
    file = write_step(run, 10, {f"Question {i}?": [f"New {i}"] for i in range(3)})
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])  # as another process may find it
    assert look(app.state.site) == 0
    assert app.state.site.troubles == []
    file.write_bytes(whole)
    assert look(app.state.site) == 3
    assert look(app.state.site) == 0
    assert count() == 3


def test_a_broken_file_is_told_and_does_not_stop_others(serve: Serve, database: Database, tmp_path: Path) -> None:
    bad, good = make_run(tmp_path / "bad", steps=(0, 10)), make_run(tmp_path / "good", steps=(0,))
    app = serve(bad)
    serve(good)
    (bad / "samples" / "step-000020.jsonl").write_text('{"probe": 1}\n')
    write_step(good, 10, {"Question 0?": ["New"]})
    assert look(app.state.site) == 1
    (trouble,) = app.state.site.troubles
    assert "step-000020.jsonl:1, field 'prompt': is missing" in trouble


def test_drawn_at_random_with_the_probability_kept(serve: Serve, database: Database, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", prompts=20, steps=(0, 10))
    file = run / "samples" / "step-000010.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[:4]:  # equal to the start: a tie that nobody need be asked about
        row["response"] = f"{row['prompt'][0]['content'].replace('Question', 'Answer').rstrip('?')}.0 of 1 at 0. "
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    serve(run, per_file=8)
    with database.read() as session:
        items = session.scalars(select(Item)).all()
        scan = session.scalars(select(Scan)).one()
    assert len(items) == 8
    assert {i.inclusion for i in items} == {8 / 16}
    assert (scan.pairs, scan.equal, scan.drawn) == (20, 4, 8)
    assert len({i.position for i in items}) == 8


def test_forms_of_a_file(tmp_path: Path) -> None:
    rows = [
        {"prompt": "P", "responses": {"m": "x", "n": "y", "o": "z"}},
        {"prompt": [{"role": "user", "content": "Q"}], "responses": ["x", "y"]},
        {"prompt": "R", "responses": [{"model": "m", "text": "x"}, {"name": "n", "content": "y"}], "expected": "b"},
    ]
    found = dict(read_pairs(Source.of([write_answers(tmp_path / "answers.jsonl", rows)]), set()))["answers.jsonl"]
    assert [(p.a.source["run"], p.b.source["run"]) for p in found] == [
        *(("m", "n"), ("m", "o"), ("n", "o")),
        ("answer-0", "answer-1"),
        ("m", "n"),
    ]
    assert [p.expected for p in found] == [None] * 4 + ["b"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "P"}, "prompt and responses are needed"),
        ({"prompt": "P", "responses": ["x"]}, "fewer than two"),
        ({"prompt": "P", "responses": ["x", 3]}, "a text without broken characters"),
        ({"prompt": "P", "responses": ["x", "\ud800"]}, "a text without broken characters"),
        ({"prompt": [{"role": "dog", "content": "x"}], "responses": ["x", "y"]}, "list of messages"),
        ({"prompt": "P", "responses": ["x", "y"], "expected": "left"}, "a, b, tie or both_bad"),
    ],
)
def test_errors_cite_the_row(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    file = tmp_path / "answers.jsonl"
    good = {"prompt": "P", "responses": ["x", "y"]}
    file.write_text("".join(json.dumps(r) + "\n" for r in (good, row)))
    with pytest.raises(DataError, match=words) as caught:
        list(read_pairs(Source.of([file]), set()))
    assert "answers.jsonl:2" in str(caught.value)


def test_what_cannot_be_served(tmp_path: Path) -> None:
    run, file = make_run(tmp_path / "run-1"), write_answers(tmp_path / "a.jsonl", [])
    with pytest.raises(RunError, match="does not exist"):
        Source.of([tmp_path / "nothing"])
    with pytest.raises(UsageError, match="mixed"):
        Source.of([run, file])
    with pytest.raises(UsageError, match="with one run"):
        Source.of([run], "runs")
    with pytest.raises(UsageError, match="one name"):
        Source.of([run, make_run(tmp_path / "other" / "run-1")])
