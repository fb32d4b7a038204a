"""The command as people and scripts use it: exit statuses, both languages, JSON, the trainer of a run."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from safetyvalve.cli import main
from safetyvalve.release.staged.settings import read_settings
from safetyvalve.release.staged.text import MESSAGES
from tests.release.staged.material import good, release, write

REASON = "looked at every gate and forty answers"


def test_both_languages_have_the_same_messages_and_places() -> None:
    def places(message: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(message) if name}

    assert MESSAGES["en"].keys() == MESSAGES["ja"].keys()
    for key, message in MESSAGES["en"].items():
        assert places(MESSAGES["ja"][key]) == places(message), key


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_init_writes_settings_that_hold(tmp_path: Path, lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("name: rpo-1\n")
    (run / "environment.json").write_text('{"trained_by": "a.sato"}')
    folder = tmp_path / "release"
    assert main(["release", "init", str(folder), "--run", str(run), "--trainer", "m.ito", "--lang", lang]) == 0
    settings = read_settings(folder / "release.yaml")
    assert (settings.candidate, settings.trainers) == ("rpo-1", ("a.sato", "m.ito"))
    assert [s.share for s in settings.stages] == [0.0, 0.1, 1.0]
    assert len(settings.guardrails) == 8 and all(g.planning for g in settings.guardrails)
    assert main(["release", "init", str(folder), "--trainer", "x", "--candidate", "y"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert main(["release", "init", str(tmp_path / "other"), "--candidate", "y"]) == 2
    assert "nobody may approve their own model" in capsys.readouterr().err


def test_exit_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = release(tmp_path / "r")
    here = str(folder)
    assert main(["release", "decide", here]) == 11
    file = write(tmp_path / "rows.jsonl", good())
    assert main(["release", "record", here, str(file)]) == 0
    assert main(["release", "decide", here]) == 10
    approve = ["release", "approve", here, "--reason", REASON, "--approver"]
    assert main([*approve, "a.sato"]) == 2
    assert "trained the candidate" in capsys.readouterr().err
    assert main([*approve, "b.tanaka"]) == 0
    assert "recorded approval (not a signature)" in capsys.readouterr().out
    assert main(["release", "status", here]) == 0
    assert main(["release", "decide", here, "--json"]) == 0
    out = capsys.readouterr().out
    record = json.loads(out[out.index("{") :])
    assert (record["promoted_to"], record["share"], record["gates"][0]["state"]) == ("pilot", 0.1, "pass")
    assert main(["release", "status", here, "--head", record["head"]]) == 11
    assert "the kept head is in the log" in capsys.readouterr().out
    assert main(["release", "rollback", here, "--reason", "customers report nonsense"]) == 0
    assert main(["release", "status", here, "--lang", "ja"]) == 13
    assert "配信取りやめ済み" in capsys.readouterr().out
    evidence = next((folder / "evidence").iterdir())
    evidence.write_text(evidence.read_text().replace('"value":1.0', '"value":0.0', 1))
    assert main(["release", "status", here]) == 14
    assert main(["release", "decide", here]) == 14
    assert "was changed after event" in capsys.readouterr().err


def test_simulate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.release.staged.material import SETTINGS

    win, harm = SETTINGS["guardrails"]
    planned = [win | {"planning": {"per_day": 60, "control": 0.5, "candidate": 0.62, "spread": 0.4}}, harm]
    folder = release(tmp_path / "r", guardrails=planned)
    assert main(["release", "simulate", str(folder), "--releases", "20", "--days", "10"]) == 0
    out = capsys.readouterr().out
    assert "20 simulated releases" in out and "taken to pass at once: harm" in out
    assert main(["release", "simulate", str(folder), "--releases", "20", "--days", "10", "--json", "--lang", "ja"]) == 0
    assert json.loads(capsys.readouterr().out)["releases"] == 20


def test_harm_in_the_first_file_takes_the_traffic_away_whatever_the_second_is(tmp_path: Path) -> None:
    from tests.release.staged.material import rows

    folder = release(tmp_path / "r")
    harm = [*rows("harm", [1, 0] * 100), *rows("harm", [0] * 200, variant="control")]
    files = [write(tmp_path / "harm.jsonl", harm), tmp_path / "missing.jsonl"]
    assert main(["release", "record", str(folder), *map(str, files)]) == 13
    assert json.loads((folder / "traffic.json").read_text())["state"] == "rolled back"
