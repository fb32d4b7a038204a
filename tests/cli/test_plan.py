"""``safetyvalve plan`` from a file to plan.json and plan.md."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from safetyvalve.cli import main
from tests.test_encoders import folder as encoder  # noqa: F401 - a fixture
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def japanese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Polite answers are preferred, mostly; every tenth pair was judged twice, at times against itself."""
    draw = random.Random(0)
    rows = []
    for i in range(240):
        polite, rough = f"はい、{i}番ですね。承知しました。", f"{i}番? 知らん。"
        chosen, rejected = (polite, rough) if draw.random() < 0.85 else (rough, polite)
        rows.append({"prompt": f"問い合わせ {i} 番", "chosen": chosen, "rejected": rejected})
        if i % 10 == 0:
            twice = (polite, rough) if draw.random() < 0.85 else (rough, polite)
            rows.append({"prompt": f"問い合わせ {i} 番", "chosen": twice[0], "rejected": twice[1]})
    return write(tmp_path_factory.mktemp("data") / "対話.jsonl", rows)


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return file


def plan(*arguments: object) -> int:
    return main(["plan", *map(str, arguments)])


def test_japanese_from_file_to_money(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    japanese: Path,
    model: str,
    encoder: Path,  # noqa: F811
) -> None:
    serving = tmp_path / "運用.txt"
    serving.write_text("問い合わせ 5 番\n返品したい\n", "utf-8")
    out = tmp_path / "計画"
    options = ["--probe", "hidden", "--model", model, "--precision", "fp32", "--draws", 3, "--lang", "ja"]
    options += ["--serving-prompts", serving, "--encoder", encoder, "--win-rate", 0.6]
    options += ["--wage", "0.25万円", "--machine-rate", "300円", "--output", out]
    assert plan("--data", japanese, *options) == 0
    text = capsys.readouterr().out
    record = json.loads((out / "plan.json").read_text("utf-8"))
    assert (out / "plan.md").read_text("utf-8") in text
    for said in ("外挿(実測ではありません)", "評価と探索の合計: ", "逆向きと推定されます", "返品したい", "万円"):
        assert said in text

    assert record["format"] == "safetyvalve-plan/1"
    assert (record["data"]["kept"], record["data"]["conversations"]) == (264, 240)
    curve = record["curve"]
    assert curve["too_few"] is None
    assert curve["probe"]["kind"] == "hidden"
    points = curve["points"]
    assert [p["comparisons"] * 2 for p in points[:-1]] == [p["comparisons"] // 2 * 2 for p in points[1:]]
    assert points[-1]["accuracy"]["estimate"] > 0.7  # politeness can be read off the tokens
    assert curve["next"]["comparisons"] == 2 * points[-1]["comparisons"]
    assert record["noise"]["estimated"]["pairs"] == 24
    assert record["coverage"]["serving_prompts"] == 2
    assert record["machine"]["seconds"] > 0
    assert record["settings"]["eta"] == 0.062
    lines = {line["work"]: line for line in record["costs"]["lines"]}
    assert lines["evaluation"]["money"] == pytest.approx(2500 * record["evaluation"]["hours"])
    assert lines["sweep"]["machine_hours"] == pytest.approx(12 * record["machine"]["seconds"] / 3600)
    assert record["costs"]["total"] == pytest.approx(lines["evaluation"]["money"] + lines["sweep"]["money"])
    assert record["costs"]["rates"] == {"wage": 2500, "machine": 300, "currency": "JPY"}


def test_too_few_for_a_curve(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    encoder: Path,  # noqa: F811
) -> None:
    """The rest of the plan is made, and how many are needed is said; nothing that was not given is made up."""
    data = write(tmp_path / "few.jsonl", [{"prompt": f"a {i}", "chosen": "a", "rejected": "b"} for i in range(30)])
    assert plan("--data", data, "--encoder", encoder, "--output", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "there are 30 comparisons in 30 conversations; a curve needs 214 in 40" in text
    assert "Cannot be estimated" in text
    assert "Scenarios, not estimates" in text
    assert "No total: --win-rate, --model, --wage, --machine-rate not given" in text
    record = json.loads((tmp_path / "out" / "plan.json").read_text("utf-8"))
    assert record["curve"]["points"] == []
    assert record["curve"]["next"] is None
    assert record["machine"] is None
    assert [p["win_rate"] for p in record["evaluation"]["plans"]] == [0.55, 0.6, 0.65]
    assert record["evaluation"]["hours"] is None


def test_fewer_examples_on_request(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    japanese: Path,
    encoder: Path,  # noqa: F811
) -> None:
    options = ["--max-examples", 220, "--draws", 2, "--more", 1.5, "--label-error", 0.1, "--eval-prompts", 300]
    assert plan("--data", japanese, "--encoder", encoder, "--output", tmp_path / "out", *options) == 0
    text = capsys.readouterr().out
    assert "220 of the kept examples were chosen" in text
    assert "Extrapolation, not measured: 1.5 times the data" in text
    record = json.loads((tmp_path / "out" / "plan.json").read_text("utf-8"))
    assert record["data"]["comparisons"] == 220
    assert record["noise"]["assumed"] is True
    assert record["evaluation"]["plans"][0]["need"]["prompts"] == 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--more", 4], "beyond the next doubling nothing is claimed"),
        (["--more", 1], "more is 1; above 1 and at most 2"),
        (["--draws", 1], "draws is 1"),
        (["--held-out", 1], "held-out is 1"),
        (["--probe", "hidden"], "--model is missing"),
        (["--wage", "40"], "--currency is missing"),
        (["--win-rate", 0.6, "--eval-prompts", 100], "exactly one of the two"),
        (["--label-error", 0.6], "label error is 0.6"),
        (["--serving-prompts", "none.txt"], "none.txt: cannot be read"),
        (["--epochs", 0], "--epochs is 0"),
        (["--seed", -1], "--seed"),
        (["--max-examples", 1], "max_examples is 1"),
        (["--model", "smollm2-135m", "--fine-tune", "half"], "fine_tune is 'half'"),
        (["--model", "smollm2-135m", "--precision", "fp8"], "precision is 'fp8'"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    japanese: Path,
    encoder: Path,  # noqa: F811
    options: list[object],
    message: str,
) -> None:
    assert plan("--data", japanese, "--encoder", encoder, "--output", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_plan_is_not_overwritten(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    japanese: Path,
    encoder: Path,  # noqa: F811
) -> None:
    (tmp_path / "plan.json").write_text("mine")
    assert plan("--data", japanese, "--encoder", encoder, "--output", tmp_path) == 2
    assert "exists; a plan is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "plan.json").read_text() == "mine"
