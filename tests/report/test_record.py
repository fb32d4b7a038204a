"""Reading run folders: whole, interrupted, damaged and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetyvalve.errors import RunError
from safetyvalve.report import build_report, read_run
from tests.report.runs import make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "a-run", "a name", [0.5, 0.8, 1.0, 1.1, 1.2])


def test_a_whole_run(folder: Path) -> None:
    record = read_run(folder)
    assert (record.name, record.folder) == ("a name", "a-run")
    assert [e["step"] for e in record.evaluations] == [0, 10, 20, 30, 40]
    assert record.missing == record.cut == ()
    assert record.series("held_out/chosen_displacement") == ([0, 10, 20, 30, 40], [-0.0, -3.0, -6.0, -9.0, -12.0])
    assert len(record.samples[40]) == 48
    assert record.by_prompt(0, "tokens")["probe003"] == 43


def test_name_falls_back_to_the_folder(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "plain", None, None)).name == "plain"


def test_name_loses_what_could_deceive(tmp_path: Path) -> None:
    record = read_run(make_run(tmp_path / "r", "a\u202eb\x1b[31m\nc" + "x" * 90, None))
    assert record.name.startswith("a b [31m c")
    assert len(record.name) == 60


@pytest.mark.parametrize("file", ["config.yaml", "metrics.jsonl"])
def test_needed_files(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(RunError, match=f"has no {file}; .* Name the folder"):
        read_run(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["settings.json", "data_report.json", "environment.json"])
def test_optional_files_are_stated_as_missing(folder: Path, file: str) -> None:
    (folder / file).unlink()
    record = read_run(folder)
    assert record.missing == (file,)
    assert f"a name: {file} not found" in build_report([record])


def test_half_a_last_line_is_left_out_and_said(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "evaluation", "step": 50, "held_out/margin": 0.')
    record = read_run(folder)
    assert record.cut == ("metrics.jsonl",)
    assert record.last_step == 40
    assert "the last line of metrics.jsonl is half written" in build_report([record])


def test_half_a_character_at_the_end(folder: Path) -> None:
    with (folder / "samples" / "step-000040.jsonl").open("ab") as stream:
        stream.write('{"probe": "p", "response": "あ'.encode()[:-1])
    assert read_run(folder).cut == ("samples/step-000040.jsonl",)


def test_damage_before_the_end_is_refused(folder: Path) -> None:
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]) + "\n")
    with pytest.raises(RunError, match="line 2 of"):
        read_run(folder)


def test_a_damaged_last_line_that_is_ended_is_no_interruption(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "st\n')
    with pytest.raises(RunError, match="Only the last line of an interrupted run"):
        read_run(folder)


def test_nothing_but_half_a_line(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text('{"kind"')
    with pytest.raises(RunError, match="holds no whole line"):
        read_run(folder)


@pytest.mark.parametrize(("text", "says"), [("- a\n", "a mapping"), ("a: [", "is not YAML"), ("", "a mapping")])
def test_config_that_is_none(folder: Path, text: str, says: str) -> None:
    (folder / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=says):
        read_run(folder)


def test_interrupted_run_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", "stopped", [0.5, 0.7], gains=[0, 1], steps=[0, 10])
    assert "the last evaluation is at step 10 of 40 planned" in build_report([read_run(folder)])


def test_run_that_never_evaluated(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", "early", [0.5, 0.7], gains=[0, 1], steps=[0, 10])
    (folder / "metrics.jsonl").write_text(json.dumps({"kind": "train", "step": 1, "loss": 0.7}) + "\n")
    for file in (folder / "samples").iterdir():
        file.unlink()
    page = build_report([read_run(folder)])
    assert "early: no evaluation was recorded" in page
    assert "samples/ not found" in page
    assert "<svg" not in page


def test_values_that_are_no_numbers_are_not_drawn(folder: Path) -> None:
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        if row["kind"] == "evaluation" and row["step"] == 20:
            row |= {"held_out/margin": float("nan"), "held_out/accuracy": None, "samples/kl": "large"}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = read_run(folder)
    assert record.series("held_out/margin")[0] == [0, 10, 30, 40]
    assert record.series("held_out/accuracy")[0] == [0, 10, 30, 40]
    build_report([record])


def test_answer_without_its_prompt_is_refused(folder: Path) -> None:
    (folder / "samples" / "step-000010.jsonl").write_text('{"probe": "a", "response": "b"}\n')
    with pytest.raises(RunError, match=r"probe, prompt .* and response are needed"):
        read_run(folder)
