"""Mistakes of the user: one line that names the place, the value and the remedy; no traceback; status 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetyvalve.cli import main
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data.jsonl"
    rows = [{"prompt": f"Q{i}", "chosen": "Yes.", "rejected": "No."} for i in range(20)]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("safetyvalve: ")]
    assert len(lines) == 1
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--objective", "ppo"], ["objective is 'ppo'", "rpo, dpo, ipo, sft"]),
        (["--beta", "-0.1"], ["beta is -0.1", "above 0"]),
        (["--beta", "x"], ["--beta", "'x'"]),
        (["--eta", "-2"], ["eta is -2"]),
        (["--eta", "lots"], ["--eta is 'lots'", "paper"]),
        (["--eta", "0.1", "--objective", "dpo"], ["eta 0.1 has no meaning", "dpo"]),
        (["--reduction", "mean"], ["reduction is 'mean'", "sequence_mean"]),
        (["--fine-tune", "dora"], ["fine_tune is 'dora'", "full, lora, qlora"]),
        (["--lora-rank", "8"], ["lora_rank 8 has no meaning for fine_tune 'full'"]),
        (["--fine-tune", "lora", "--lora-targets", "wq"], ["lora_targets has 'wq'", "q_proj"]),
        (["--save-dtype", "fp8"], ["save_dtype is 'fp8'", "fp32, bf16"]),
        (["--steps", "0"], ["steps is 0"]),
        (["--precision", "int4"], ["precision is 'int4'", "bf16"]),
        (["--held-out", "most"], ["--held-out is 'most'"]),
        (["--held-out", "0.99"], ["leave none to train on"]),
        (["--engine", "fast"], ["engine is 'fast'", "auto, tree, padded"]),
        (["--scorer", "nosuchmodule:f"], ["--scorer", "cannot be imported"]),
        (["--scorer", "score"], ["--scorer is 'score'", "module:function"]),
        (["--max-length", "3"], ["--max-length 3"]),
        (["--chat-template", "nothing.jinja"], ["nothing.jinja", "cannot be read"]),
        (["--format", "xml"], ["format is 'xml'"]),
        (["--lang", "fr"], ["fr", "en", "ja"]),
        (["--bta", "1"], ["--bta", "--beta"]),
    ],
)
def test_options_of_train(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, model: str, options: list[str], fragments: list[str]
) -> None:
    base = [
        "train",
        "--data",
        data,
        "--model",
        model,
        "--output",
        tmp_path / "run",
        "--steps",
        "1",
        "--sample-prompts",
        "0",
    ]
    line = fails(capsys, *base, *options)
    assert all(f in line for f in fragments), line


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (None, ["does not exist"]),
        ("", ["has no rows"]),
        ('{"prompt": "a"}\n', [":1", "'prompt'", "no known form"]),
        (
            '{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", "chosen": 5, "rejected": "c"}\n',
            [":2", "'chosen'", "5"],
        ),
        ("not json\n", [":1", "not JSON"]),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, content: str | None, fragments: list[str]
) -> None:
    file = tmp_path / "bad.jsonl"
    if content is not None:
        file.write_text(content)
    arguments = (
        ["data", "check", file] if command == "check" else ["train", "--data", file, "--output", tmp_path / "run"]
    )
    line = fails(capsys, *arguments)
    assert all(f in line for f in ["bad.jsonl", *fragments]), line
    assert not (tmp_path / "run").exists()


def test_folder_with_another_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, model: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: mine")
    line = fails(capsys, "train", "--data", data, "--model", model, "--output", tmp_path / "run")
    assert "holds another run; nothing was changed" in line


def test_model_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    line = fails(capsys, "train", "--data", data, "--model", "./nowhere", "--output", tmp_path / "run")
    assert "model './nowhere' is no folder" in line
    assert "smollm2-135m" in line


def test_unknown_command_and_missing_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such command 'trian'" in fails(capsys, "trian")
    assert "--data" in fails(capsys, "train")


def test_report_of_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fails(capsys, "report", tmp_path / "none")
    assert "none" in line


def test_quickstart_into_a_used_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    line = fails(capsys, "quickstart", "--output", tmp_path)
    assert "is not empty; nothing was changed" in line
