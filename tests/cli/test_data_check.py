"""``safetyvalve data check``, and the data report of a run: one object in the terminal, in JSON and on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from safetyvalve.cli import main
from safetyvalve.data import DataReport
from tests.test_encoders import folder as encoder  # noqa: F401 - a fixture
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": f"質問 a b {i}", "chosen": f"はい{i}", "rejected": f"いいえ{i}"} for i in range(40)]
    rows.append(dict(rows[0], chosen="いいえ0", rejected="はい0"))
    rows.append({"prompt": "c", "chosen": "x" * 500, "rejected": "taro@example.com"})
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return file


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    file = tmp_path / "serve.txt"
    file.write_text("質問 a b\nd e\n", "utf-8")
    return file


def check(*arguments: object) -> int:
    return main(["data", "check", *map(str, arguments)])


def test_without_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    assert check(data, "--json", tmp_path / "out.json") == 0
    text = capsys.readouterr().out
    for line in ("kept     42", "contradictory comparisons: 1 pairs", "label noise: 50.0%", "e-mail: row 42"):
        assert line in text
    report = DataReport.model_validate_json((tmp_path / "out.json").read_text())
    assert "\n".join(report.lines()) == text.rstrip("\n")
    assert check(data, "--json", "-") == 0
    assert DataReport.model_validate_json(capsys.readouterr().out) == report


def test_a_row_that_training_would_refuse_fails_after_the_report(
    capsys: pytest.CaptureFixture[str], data: Path, model: str
) -> None:
    assert check(data, "--model", model, "--max-length", 200) == 2
    out, err = capsys.readouterr()
    assert "longer than --max-length: 1, row 42" in out
    assert "length in tokens" in out
    assert "data.jsonl:42: has 521 tokens (prompt 20); at most" in err


def test_more_than_max_drop_fails_after_the_report(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    assert check(data, "--model", model, "--max-length", 200, "--on-long", "drop") == 2
    out, err = capsys.readouterr()
    assert "dropped  1 (2.38%)" in out
    assert re.search(
        r"data\.jsonl:42: 1 of 42 rows would be dropped \(2\.4%; longer than --max-length: 1, such as", err
    )
    assert check(data, "--model", model, "--max-length", 200, "--on-long", "drop", "--max-drop", "0.05") == 0


def test_truncated(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    assert check(data, "--model", model, "--max-length", 200, "--on-long", "truncate") == 0
    assert "truncated 1 (oldest turns left out in 0, responses cut in 1): row 42" in capsys.readouterr().out


def test_serving_prompts(
    capsys: pytest.CaptureFixture[str],
    data: Path,
    serving: Path,
    encoder: Path,  # noqa: F811
) -> None:
    assert check(data, "--serving-prompts", serving, "--encoder", encoder) == 0
    text = capsys.readouterr().out
    assert "serving prompts: 2 of" in text
    assert "nearest is row" in text


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--max-length", "50"], "needs --model"),
        (["--on-long", "drop"], "needs --model"),
        (["--serving-prompts", "none.txt"], "none.txt: cannot be read"),
        (["--json", "/no/such/folder/x.json"], "--json /no/such/folder/x.json cannot be written"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], data: Path, options: list[str], fragment: str) -> None:
    assert check(data, *options) == 2
    assert fragment in capsys.readouterr().err


def test_a_run_has_the_same_report(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    serving: Path,
    model: str,
    encoder: Path,  # noqa: F811
) -> None:
    options = ["--steps", "1", "--prompts-per-step", "2", "--sample-prompts", "0", "--held-out", "4"]
    options += ["--max-length", "200", "--on-long", "truncate", "--serving-prompts", str(serving)]
    options += ["--encoder", str(encoder), "--precision", "fp32", "--lang", "ja"]
    run = tmp_path / "run"
    assert main(["train", "--data", str(data), "--model", model, "--output", str(run), *options]) == 0
    report = DataReport.model_validate_json((run / "data_report.json").read_text())
    assert report.tokens is not None
    assert [t.row for t in report.tokens.truncated] == [42]
    assert report.coverage is not None
    assert report.coverage.serving_prompts == 2
    # Trained on without the held-out conversations; equal prompts count once.
    assert report.coverage.data_prompts < 41
    page = (run / "report.html").read_text("utf-8")
    assert "運用で受けるプロンプトをデータは覆っているか" in page
    assert "taro@" not in page
    config = (run / "config.yaml").read_text()
    assert f"serving_prompts: {serving}" in config


def test_prompts_with_responses(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str) -> None:
    file = tmp_path / "sft.jsonl"
    file.write_text(json.dumps({"prompt": "質問", "completion": "はい"}) + "\n", "utf-8")
    assert check(file, "--model", model) == 0
    text = capsys.readouterr().out
    assert "form prompt-response, 1 rows" in text
    assert "response mask 1: 'は' 'い' '<|im_end|>' <- end token" in text


def test_a_separate_sft_file_counts_its_drops(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, model: str
) -> None:
    file = tmp_path / "sft.jsonl"
    rows = [{"prompt": f"P{i}", "completion": "<|im_end|>" if i == 4 else "はい"} for i in range(10)]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    options = ["--steps", "1", "--baseline", "sft-data", "--sft-data", str(file), "--allow-uncovered"]
    options += ["--sample-prompts", "0", "--max-length", "200", "--on-long", "truncate", "--max-drop", "0.05"]
    base = ["train", "--data", str(data), "--model", model, "--output", str(tmp_path / "run")]
    assert main([*base, *options]) == 2
    assert re.search(r"sft\.jsonl:5: 1 of 10 rows would be dropped \(10\.0%; contains a spec", capsys.readouterr().err)
