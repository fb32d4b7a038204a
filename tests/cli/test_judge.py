"""``safetyvalve judge`` and ``convert`` as people call them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.cli import main
from safetyvalve.stats import read_verdicts, resolve
from tests.judges.stand_in import Reply, StandIn, chat, honest
from tests.judges.test_sources import lines, make_run

KEY = "sk-very-secret-0123456789"


def by_length(prompts: list[str], answers: list[str]) -> list[float]:
    """A rubric."""
    return [float(len(a)) for a in answers]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    prompts = [f"Question {i}?" for i in range(12)]
    return [
        str(make_run(tmp_path / "runs" / name, {0: [(p, "start") for p in prompts], 40: [(p, word) for p in prompts]}))
        for name, word in (("dpo", "BAD"), ("rpo", "GOOD"))
    ]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SAFETYVALVE_JUDGE_API_KEY", raising=False)


def _endpoint(server: StandIn, *more: str) -> list[str]:
    return ["--judge", "endpoint", "--model", "judge-1", "--url", server.url, *more]


def test_runs_to_verdicts_to_statistics(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["--prompt-price", "2", "--completion-price", "10"]
    with StandIn(honest) as server:
        assert main(["judge", *runs, *_endpoint(server, *prices)]) == 0
        assert len(server.requests) == 24
        said = capsys.readouterr().out
        # Equal questions are asked once: the same command again asks nothing and adds nothing.
        assert main(["judge", *runs, *_endpoint(server, *prices)]) == 0
        assert len(server.requests) == 24
    file = tmp_path / "runs" / "verdicts.jsonl"
    assert "dpo step 40 0, rpo step 40 12, tie 0, both bad 0, no verdict 0" in said
    assert "the answer shown first won 12 of 24" in said
    assert "tokens: 2400 prompt, 240 completion" in said
    assert "cost: 0.0072" in said
    assert f"written: 0 records to {file}; 24 were there" in capsys.readouterr().out
    assert main(["stats", str(file)]) == 0
    assert "rpo step 40" in capsys.readouterr().out
    assert [e.orders for e in resolve(read_verdicts(file).verdicts)] == [2] * 12
    done = [json.loads(line) for line in (file.parent / "judges.jsonl").read_text().splitlines()]
    assert [d["questions_from_cache"] for d in done] == [0, 24]
    assert done[0]["rater"] == "judge-1"
    assert len(done[0]["settings"]["template_sha256"]) == 64
    assert done[0]["tokens"] == {"prompt": 2400, "completion": 240, "uncounted": 0}


def test_no_verdict_is_counted_by_its_cause(
    runs: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def now_and_then(body: dict[str, Any], n: int) -> Reply:
        return Reply(chat("Both are nice.")) if n in (3, 5) else honest(body)

    with StandIn(now_and_then) as server:
        assert main(["judge", *runs, *_endpoint(server, "--lang", "en", "--concurrency", "1")]) == 0
    assert "no verdict: 2 not parsable" in capsys.readouterr().out
    verdicts = read_verdicts(tmp_path / "runs" / "verdicts.jsonl").verdicts
    assert [v.tags for v in verdicts if v.verdict == "none"] == [("not parsable",)] * 2


def test_the_key_is_in_no_file(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with StandIn(honest) as server:
        assert main(["judge", *runs, *_endpoint(server, "--api-key-env", "MY_KEY")]) == 0
        assert {h["authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) > 24
    assert not any(KEY.encode() in f.read_bytes() for f in files)
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err


def test_dry_run_asks_nothing_and_writes_nothing(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StandIn(honest) as server:
        prices = ["--prompt-price", "1", "--completion-price", "2", "--max-tokens", "100"]
        assert main(["judge", *runs, *_endpoint(server, "--dry-run", *prices)]) == 0
        assert server.requests == []
    said = capsys.readouterr().out
    assert "questions: 24; in the cache: 0; to ask: 24" in said
    assert "at most 2400 completion" in said
    assert "cost, guessed: 0.0" in said
    assert not (tmp_path / "runs" / "verdicts.jsonl").exists()


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_without_repeating(runs: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from safetyvalve.cli import main; raise SystemExit(main())", "judge", *runs]
    with StandIn(lambda body, n: honest(body)._replace(delay=0.1)) as server:
        options = _endpoint(server, "--concurrency", "2")
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 120
        while len(server.requests) < 9 and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        asked = len(server.requests)
        assert 9 <= asked < 24
        kept = len(list((tmp_path / "cache" / "judges").rglob("*.json")))
        assert kept >= asked - 3  # two under way, and one that came and was not yet on the disk
        subprocess.run([*command, *options], check=True, capture_output=True)
        assert len(server.requests) == asked + 24 - kept
    assert len(read_verdicts(tmp_path / "runs" / "verdicts.jsonl").verdicts) == 24


def test_other_judges_write_into_the_same_file(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", *runs, "--judge", "rubric", "--scorer", "tests.cli.test_judge:by_length"]) == 0
    assert main(["judge", *runs, "--judge", "fake", "--position-bias", "1", "--prompts", "5"]) == 0
    assert main(["stats", str(tmp_path / "runs" / "verdicts.jsonl")]) == 0
    verdicts = read_verdicts(tmp_path / "runs" / "verdicts.jsonl").verdicts
    assert sorted((v.rater, v.rater_kind) for v in verdicts) == (
        [("fake", "judge")] * 10 + [("tests.cli.test_judge:by_length", "rubric")] * 12
    )
    assert {v.inclusion_probability for v in verdicts if v.rater == "fake"} == {5 / 12}


def test_one_run_is_judged_against_its_start(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", runs[1], "--judge", "fake"]) == 0
    assert "rpo step 0" in capsys.readouterr().out
    assert (Path(runs[1]) / "verdicts.jsonl").is_file()


def test_drifting_samples_are_joined_or_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "p", "responses": {"x": "1", "y": "2"}}, {"prompt": "q", "model": "x", "answer": "1"}]
    file = str(lines(tmp_path / "answers.jsonl", rows))
    assert main(["judge", file, "--judge", "fake"]) == 2
    assert "1 answers lack a partner" in capsys.readouterr().err
    assert main(["judge", file, "--judge", "fake", "--common-only"]) == 0
    assert "1 answers without a partner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--judge", "endpoint"], "--judge endpoint needs --model"),
        (["--judge", "reward"], "--judge reward needs --model"),
        (["--judge", "rubric"], "--judge rubric needs --scorer"),
        (["--judge", "rubric", "--scorer", "no.module:f"], "cannot be imported"),
        (["--judge", "endpoint", "--model", "m", "--body", "{"], "--body is no JSON"),
        (["--judge", "endpoint", "--model", "m", "--body", "[]"], "a JSON object is accepted"),
        (["--judge", "endpoint", "--model", "m", "--url", "nowhere"], "--url is 'nowhere'"),
        (["--judge", "endpoint", "--model", "m", "--prompt-price", "1"], "belong together"),
        (
            ["--judge", "endpoint", "--model", "m", "--attempts", "1", "--url", "http://127.0.0.1:9/v1"],
            "cannot be reached",
        ),
        (["--judge", "fake", "--prompts", "0"], "at least 1"),
        (["--judge", "oracle"], "oracle"),
    ],
)
def test_mistakes_are_told_in_one_line(
    options: list[str], says: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", *runs, *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs" / "verdicts.jsonl").exists()


def test_convert_there_and_back(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", *runs, "--judge", "fake"]) == 0
    ours, out, back = tmp_path / "runs" / "verdicts.jsonl", tmp_path / "out", tmp_path / "back.jsonl"
    assert main(["convert", *runs, "--to", "mt-bench", "--output", str(out), "--verdicts", str(ours)]) == 0
    assert main(["convert", str(out), "--to", "verdicts", "--output", str(back)]) == 0
    assert {e.item: e.verdict for e in resolve(read_verdicts(back).verdicts)} == {
        e.item: e.verdict for e in resolve(read_verdicts(ours).verdicts)
    }
    assert main(["convert", *runs, "--to", "alpaca-eval", "--output", str(tmp_path / "a"), "--first-samples"]) == 0
    assert "model_outputs.json" in capsys.readouterr().out
    assert main(["convert", str(ours), "--to", "verdicts", "--output", str(back), "--verdicts", str(ours)]) == 2
