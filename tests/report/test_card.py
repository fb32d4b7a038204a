"""The model card: parsed by Hugging Face's own reader, true to the run, silent on paths and on what is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from safetyvalve.cli import main
from safetyvalve.lineage import BaseModel
from safetyvalve.report import finding, model_card, read_run, write_card
from tests.report.runs import DATA_REPORT, make_run

OVEROPTIMIZED = (1.0, 1.6, 2.0, 1.4, 0.8)
ALIAS = BaseModel("smollm2-135m", "alias", "ef" * 32, "what the alias is", license="apache-2.0")
HUB = BaseModel("someone/some-model", "hub", "ef" * 32, revision="c0ffee", four_bit="bfloat16")
FOLDER = BaseModel("own-model", "folder", "ef" * 32)


def card_of(tmp_path: Path, base: BaseModel | None, *, adapter: bool = False, **kwargs: Any) -> tuple[Path, ModelCard]:
    data = "/home/somebody/secret/pairs.jsonl"
    config = {"model": "/home/somebody/own-model", "data": data} | kwargs.pop("config", {})
    run = make_run(tmp_path / "run", kwargs.pop("name", "dpo"), OVEROPTIMIZED, config=config, **kwargs)
    (run / "data_report.json").write_text(json.dumps(DATA_REPORT | {"file": data}))
    (run / "model").mkdir()
    if base:
        base.write(run / "model")
    if adapter:
        (run / "model" / "adapter_config.json").write_text('{"r": 8}')
    return run, ModelCard(model_card(read_run(run), run / "model"))


def test_front_matter(tmp_path: Path) -> None:
    _, card = card_of(tmp_path, ALIAS)
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "license": "apache-2.0",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "finetune",
        "pipeline_tag": "text-generation",
        "tags": ["safetyvalve", "preference-optimization", "dpo"],
    }


def test_what_it_says_is_what_the_run_recorded(tmp_path: Path) -> None:
    run, card = card_of(tmp_path, ALIAS)
    text = card.text
    assert " ".join(finding([read_run(run)]).sentences) in text
    assert "overoptimized" in text
    assert "| `held_out/preference_loss` | 0.693 | 0.593 |" in text
    assert "| rows dropped | 3 |" in text
    assert "| `beta` | `0.05` |" in text
    assert "abab" * 16 in text  # the data's hash
    assert "Not a content filter" in text
    assert "answers to 24 held-out prompts" in text
    assert "vllm serve THIS_FOLDER" in text
    assert "Without an independent score" not in text


def test_no_folder_of_the_author_is_told(tmp_path: Path) -> None:
    _, card = card_of(tmp_path, FOLDER, config={"chat_template": "C:\\Users\\somebody\\t.jinja"})
    assert "somebody" not in str(card)
    assert "secret" not in str(card)
    assert "| `data` | `pairs.jsonl` |" in card.text
    assert "| `chat_template` | `t.jinja` |" in card.text


def test_a_dataset_of_the_hub_is_named(tmp_path: Path) -> None:
    run, _ = card_of(tmp_path, ALIAS)
    source = "hub dataset someone/pairs (config default, split train, commit 0123456789ab)"
    (run / "data_report.json").write_text(json.dumps({"file": "someone/pairs:train", "source": source}))
    card = ModelCard(model_card(read_run(run), run / "model"))
    assert card.data.datasets == ["someone/pairs"]
    assert "| `data` | `someone/pairs:train` |" in card.text


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "bare", None)
    for name in ("data_report.json", "environment.json", "settings.json"):
        (run / name).unlink()
    (run / "model").mkdir()
    card = ModelCard(model_card(read_run(run), run / "model"))
    assert card.data.license is None
    assert card.data.base_model is None
    for sentence in (
        "No data report is on record",
        "No environment is on record",
        "Base model: not on record",
        "Licence of the base: not known",
        "Without an independent score",
        "No conclusion on overoptimization is possible",
    ):
        assert sentence in card.text


def test_a_field_that_the_data_report_lacks(tmp_path: Path) -> None:
    run, _ = card_of(tmp_path, ALIAS)
    (run / "data_report.json").write_text(json.dumps({"file": "a/b.jsonl", "kept": 3}))
    text = model_card(read_run(run), run / "model")
    assert "| rows kept | 3 |" in text
    assert "| comparisons | not recorded |" in text


@pytest.mark.parametrize("base", [ALIAS, HUB, FOLDER], ids=lambda b: b.kind)
def test_how_an_adapter_is_loaded(base: BaseModel, tmp_path: Path) -> None:
    _, card = card_of(tmp_path, base, adapter=True)
    assert card.data.library_name == "peft"
    assert "rank 8" in card.text
    assert "--max-lora-rank 8 --lora-modules" in card.text
    assert base.sha256 in card.text
    assert ("fetches the base from the hub" in card.text) == (base is HUB)
    assert ('PeftModel.from_pretrained(base, "THIS_FOLDER")' in card.text) == (base is not HUB)
    assert ("resolve('smollm2-135m')" in card.text) == (base is ALIAS)
    assert ("load_in_4bit=True" in card.text) == (base is HUB)
    if base is HUB:
        assert "commit `c0ffee`" in card.text
        assert card.data.base_model == "someone/some-model"
        assert card.data.base_model_relation == "adapter"
    for block in card.text.split("```python\n")[1:]:
        compile(block.partition("```")[0], "card", "exec")


def test_names_stay_text(tmp_path: Path) -> None:
    hostile = "a|b\n## c <script>`x`"
    _, card = card_of(tmp_path, ALIAS, name=hostile, config={"scorer": "x|y`z\n---\nlicense: mit"})
    assert card.data.license == "apache-2.0"
    assert "<script>" not in card.text
    assert "\n## c" not in card.text
    rows = [line for line in card.text.splitlines() if line.startswith("| `")]
    assert all(line.replace("\\|", "").count("|") in (3, 4) for line in rows)
    assert yaml.safe_load(str(card).split("---")[1])["license"] == "apache-2.0"


def test_a_card_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = card_of(tmp_path, ALIAS)
    assert main(["report", str(run)]) == 0
    card = run / "model" / "README.md"
    assert str(card) in capsys.readouterr().out
    card.write_text("edited")
    assert main(["report", str(run)]) == 0
    assert card.read_text() == "edited"
    assert write_card(make_run(tmp_path / "unfinished", "other", OVEROPTIMIZED)) is None


def test_the_data_report_in_the_card(checked: Path, tmp_path: Path) -> None:
    run, _ = card_of(tmp_path, ALIAS)
    (run / "data_report.json").write_text((checked / "data_report.json").read_text())
    text = model_card(read_run(run), run / "model")
    for row in ("| rows truncated | 2 |", "| contradictory pairs of responses | 1 |", "personal data | 1 |"):
        assert row in text
    assert "| labels the wrong way round | 50.0% (95% interval" in text
    assert "| prompts to be served that the data do not cover | " in text
