"""The shipped tickets are what their script makes, the same in both languages, and run through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetyvalve.cli import main
from safetyvalve.release.examples import EXAMPLES, make_tickets, write_examples
from safetyvalve.release.roi_record import Roi
from safetyvalve.release.tickets import read_tickets


def test_the_script_makes_the_shipped_files(tmp_path: Path) -> None:
    made = make_tickets.files()
    assert set(made) == set(EXAMPLES)
    for file in write_examples(tmp_path):
        assert file.read_bytes() == made[file.name]
        assert len(made[file.name]) < 60_000


def test_both_languages_hold_the_same_tickets(tmp_path: Path) -> None:
    english, japanese = (read_tickets([f]) for f in write_examples(tmp_path))
    assert (english.files[0].encoding, japanese.files[0].encoding) == ("UTF-8", "cp932")
    same = [n for n in english.rows[0]._fields if n not in ("agent", "variant", "file")]
    for one, two in zip(english.rows, japanese.rows, strict=True):
        assert [getattr(one, n) for n in same] == [getattr(two, n) for n in same]
    assert len(english.rows) == 480 and len(english.months) == 6


def roi_words(folder: Path, *more: str) -> list[str]:
    return [
        *("roi", str(folder / "tickets.csv"), "--design", "randomised", "--unit", "customer", "--control", "current"),
        *(
            "--treatment",
            "rpo",
            "--assumptions",
            str(folder / "assumptions.yaml"),
            "--set",
            "evaluation_hours=40",
            *more,
        ),
    ]


@pytest.fixture
def example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["roi", "--example", str(tmp_path / "ex")]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.split()[1:] == roi_words(tmp_path / "ex", "--lang", "en")
    return tmp_path / "ex"


def test_the_command_that_the_example_prints_works(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(roi_words(example, "--output", str(example / "out"), "--replicates", "2000")) == 0
    out = capsys.readouterr().out
    assert "Short term net" in out and "share of freed time redeployed" in out and "randomised" in out
    assert sorted(f.name for f in (example / "out").iterdir()) == ["roi.csv", "roi.html", "roi.json", "roi.md"]
    found = Roi.model_validate(json.loads((example / "out" / "roi.json").read_text()))
    assert sum(found.study.tickets.values()) == 480
    assert [s.redeployed.mode for s in found.scenarios] == [0.5, 1]


def test_japanese(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [w.replace("tickets.csv", "tickets_ja.csv") for w in roi_words(example, "--lang", "ja")]
    words[words.index("current")], words[words.index("rpo")] = "現行", "新方式"
    assert main([*words, "--replicates", "500"]) == 0
    out = capsys.readouterr().out
    assert "投資対効果" in out and "万円" in out and "cp932" in out
    assert main(["roi", "--template", "--lang", "ja"]) == 0
    assert "空いた時間" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "wage"], "--set is 'wage'; NAME=VALUE is accepted"),
        (["--set", "evaluation_hours=1"], "each name once"),
        (["--csat-range", "5"], "LOW,HIGH is accepted"),
        (["--candidate", "x"], "add --verdicts"),
        (["--treatment", "rpo2"], "tickets.csv:1, field 'variant': has no ticket of the variant 'rpo2'"),
        (["--unit", "agent"], "then the agent was not what was assigned"),
        (["--launch", "2026-03-01"], "takes none"),
        (["--since", "2030-01-01"], "widen --since and --until"),
        (["--set", "harm_rate=2"], "--set: harm_rate is 2; 0 to 1 is accepted"),
    ],
)
def test_mistakes_are_told_in_one_line(
    example: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(roi_words(example, *words)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_must_be_said(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["roi"]) == 2
    assert "no ticket files were given" in capsys.readouterr().err
    assert main(["roi", str(example / "tickets.csv")]) == 2
    assert "--design is None and --unit None; both must be said" in capsys.readouterr().err
