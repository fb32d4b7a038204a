"""``safetyvalve init``: the file loads, holds every option, trains, and never replaces another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from safetyvalve.cli import app, main
from safetyvalve.cli.configured import key_of, options_of
from safetyvalve.cli.init import template
from safetyvalve.cli.presets import PRESETS
from safetyvalve.config import read_settings
from tests.tiny import tiny_model, tiny_tokenizer

commands: Any = typer.main.get_command(app)
OPTIONS = options_of(commands.commands["train"])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_option_stands_in_it_once(tmp_path: Path, preset: str, lang: str) -> None:
    text = template(preset, lang=lang)
    everything = re.sub(r"(?m)^#(?=\w+:)", "", text)
    (tmp_path / "all.yaml").write_text(everything, encoding="utf-8")
    keys = {name: key_of(option) for name, option in OPTIONS.items()}
    read = read_settings(tmp_path / "all.yaml", keys)
    assert read.keys() == OPTIONS.keys()
    set_here = yaml.safe_load(text)
    assert set_here.keys() == PRESETS[preset].keys()
    for name in OPTIONS.keys() - set_here.keys():
        assert read[name].value == OPTIONS[name].default
    japanese = [line for line in text.splitlines() if line.startswith("# ") and re.search("[ぁ-ん]", line)]
    assert bool(japanese) == (lang == "ja")
    assert set_here["lang"] == lang
    assert max(map(len, text.splitlines())) <= 120


def test_it_never_replaces_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--data", "比較: a.jsonl"]) == 0
    before = Path("run.yaml").read_bytes()
    assert yaml.safe_load(before)["data"] == "比較: a.jsonl"
    assert "safetyvalve train --config run.yaml" in capsys.readouterr().out
    assert main(["init", "--preset", "standard"]) == 2
    assert "'run.yaml' exists; nothing was changed" in capsys.readouterr().err
    assert Path("run.yaml").read_bytes() == before
    assert main(["init", "--output", "no/such/folder.yaml"]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("preset", PRESETS)
def test_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """With a tiny model and the figures that cost time brought down on the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": f"Q{i}", "chosen": "Yes.", "rejected": "No."} for i in range(100)]
    Path("data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    tiny_model().save_pretrained("model")
    tiny_tokenizer().save_pretrained("model")
    assert main(["init", "--preset", preset, "--data", "data.jsonl", "--lang", "ja"]) == 0
    fewer = ["--steps", "1", "--sample-prompts", "2", "--max-new-tokens", "4", "--held-out-examples", "4"]
    assert main(["train", "--config", "run.yaml", "--model", "model", "--output", "run", *fewer]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    wanted = {n: c.value for n, c in PRESETS[preset].items() if n in ("max_examples", "eval_every", "objective")}
    assert {name: config[name] for name in wanted} == wanted
    assert '<html lang="ja"' in Path("run/report.html").read_text(encoding="utf-8")
