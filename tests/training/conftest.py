"""A tiny model and data on disk, as a run is given them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_model, tiny_tokenizer
from tests.training.helpers import write_pairs


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that another test computed. Not for tests of the real model, whose conversion is in the shared one."""
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model_folder(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data.jsonl", 24)
