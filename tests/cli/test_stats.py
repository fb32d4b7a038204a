"""``safetyvalve stats`` and ``safetyvalve annotate plan`` on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from safetyvalve.cli import main
from safetyvalve.stats import append_verdicts
from tests.stats.simulated import verdicts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "verdicts.jsonl"
    append_verdicts(path, verdicts({"w": 1.0, "[x]": 0.0, "y": -1.0}, 50, judge="j"))
    return path


def test_tables_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, file: Path) -> None:
    assert main(["stats", str(file), "--json", str(tmp_path / "out.json"), "--family", "j=w,y"]) == 0
    out = capsys.readouterr().out
    assert "600 verdicts, form verdicts" in out
    for part in ("Win rate of A", "[x] / w", "Ranking by people", "Agreement of people", "Judges against people"):
        assert part in out
    assert "What cannot be concluded" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["verdicts"] == 600
    assert found["judges"][0]["family"]["estimate"] is not None
    assert "interval" in found["pairs"][0]["rate"]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--family", "j"], "--family is 'j'; JUDGE=MODEL,MODEL"),
        (["--family", "k=w"], "the family of 'k'"),
        (["--confidence", "95"], "confidence is 95"),
        (["--json", "/nowhere/out.json"], "/nowhere/out.json cannot be written"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], file: Path, options: list[str], fragment: str) -> None:
    assert main(["stats", str(file), *options]) == 2
    assert fragment in capsys.readouterr().err


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", "plan", "--win-rate", "0.6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["need"]["prompts"] == found["need"]["verdicts"]
    assert found["judgments"] == math.ceil(found["need"]["verdicts"] * 1.1 - 1e-9)
    assert main(["annotate", "plan", "--win-rate", "0.6"]) == 0
    assert f"prompts          {found['need']['prompts']}" in capsys.readouterr().out
    assert main(["annotate", "plan", "--win-rate", "0.6", "--lang", "ja"]) == 0
    assert f"プロンプト    {found['need']['prompts']} 件" in capsys.readouterr().out


def test_plan_that_cannot_work(capsys: pytest.CaptureFixture[str]) -> None:
    spread = ["--annotators", "3", "--annotator-spread", "0.05"]
    assert main(["annotate", "plan", "--win-rate", "0.55", *spread]) == 0
    assert "3 people are too few" in capsys.readouterr().out
    assert main(["annotate", "plan", "--prompts", "2"]) == 0
    assert "2 prompts are too few" in capsys.readouterr().out
    assert main(["annotate", "plan"]) == 2
    assert "exactly one of the two" in capsys.readouterr().err
