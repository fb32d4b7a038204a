"""The tour's own parts; the whole road on the real model is a slow test."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safetyvalve.cli import main
from safetyvalve.errors import RunError
from safetyvalve.lab.quickstart.rubric import load_prompts
from safetyvalve.lab.tour.annotators import judge_all, read_page
from safetyvalve.lab.tour.material import CONTROL, RELEASE, answer_rows, write_answers, write_observations
from safetyvalve.lab.tour.road import Road, travel
from tests.annotate.serving import Server


def a_run(folder: Path, last: str, prompts: int = 6) -> Path:
    """A run folder with samples of two steps."""
    (folder / "samples").mkdir(parents=True)
    for step, end in ((0, "and so on and so on and so on and so on"), (12, last)):
        rows = [
            {
                "probe": p.id,
                "prompt": [{"role": "user", "content": p.prompt}],
                "response": f"{' '.join(group[0] for group in p.key_terms)} {end}",
                "proxy_reward": float(step),
            }
            for p in load_prompts()[:prompts]
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "samples" / f"step-{step:06d}.jsonl").write_text(text)
    return folder


def test_rows_hold_the_first_and_the_last_answers(tmp_path: Path) -> None:
    rows = answer_rows({"dpo": a_run(tmp_path / "a", "is short."), "rpo": a_run(tmp_path / "b", "is whole.")})
    assert len(rows) == 6
    responses = rows[0]["responses"]
    assert rows[0]["rewards"] == {CONTROL: 0.0, "dpo": 12.0, "rpo": 12.0}
    assert set(responses) == {CONTROL, "dpo", "rpo"}
    assert responses[CONTROL].endswith("so on")
    assert responses["rpo"].endswith("is whole.")


def test_runs_on_other_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="different prompts"):
        answer_rows({"dpo": a_run(tmp_path / "a", "x.", prompts=5), "rpo": a_run(tmp_path / "b", "x.")})


def test_a_page_is_read_as_a_person_would() -> None:
    html = """<section class="prompt"><div class="turn user"><h2>User</h2><div class="said" dir="auto"><p>Why
      &amp; how?</p></div></div></section><div class="answers"><section class="answer"><h2>Answer 1</h2>
      <div class="said"><p>One<br>line</p><ul><li>a</li></ul></div></section>
      <section class="answer"><div class="said"><p>Two</p></div></section></div>"""
    page = read_page(html)
    assert page.prompt == "Why & how?"
    assert page.answers == ("One line a", "Two")


def test_scripted_annotators_judge_in_the_real_app(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer_rows({"rpo": a_run(tmp_path / "b", "are what matters here.", prompts=8)})
    write_answers(rows, tmp_path / "answers.jsonl")
    assert "rewards" not in (tmp_path / "answers.jsonl").read_text()
    database = tmp_path / "annotate.db"
    server = Server(tmp_path / "answers.jsonl", "--db", database, "--overlap", 2, invites=3)
    try:
        judged = judge_all(server.links["annotator"], seed=1)
    finally:
        server.stop()
    assert sum(judged.votes.values()) >= 16  # two of each item, and repeats
    assert main(["annotate", "export", str(tmp_path / "votes"), "--db", str(database)]) == 0
    verdicts = [json.loads(line) for line in (tmp_path / "votes" / "verdicts.jsonl").read_text().splitlines()]
    assert {v["rater_kind"] for v in verdicts} == {"human"}
    won = [v[{"a": "model_a", "b": "model_b"}[v["verdict"]]] for v in verdicts if v["verdict"] in ("a", "b")]
    assert won.count("rpo") > len(won) / 2  # whole, and without repetition


def test_a_release_takes_the_tours_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release, traffic = tmp_path / "release", tmp_path / "traffic.csv"
    started = ["release", "init", str(release), "--candidate", "rpo", "--control", CONTROL, "--trainer", "tour-trainer"]
    assert main(started) == 0
    (release / "release.yaml").write_text(RELEASE)
    rows = answer_rows({"rpo": a_run(tmp_path / "b", "are what matters here.")})
    write_observations(traffic, "shadow", datetime.now(UTC), rows, units=50, paired=True, seed=0)
    with traffic.open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 112
    assert main(["release", "record", str(release), str(traffic)]) == 0
    assert main(["release", "status", str(release)]) == 11  # nobody has judged


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        travel(tmp_path, Road(), print)
    assert [f.name for f in tmp_path.iterdir()] == ["kept"]
