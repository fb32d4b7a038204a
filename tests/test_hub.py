"""The hub's libraries are not left to try for half a minute where nothing answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from safetyvalve import hub
from safetyvalve.errors import ModelError
from safetyvalve.models import load_tokenizer
from tests.data.hub import local_hub


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address at which nothing listens, as the hub's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return address


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that anybody sleeps, who does not."""
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


def test_nothing_listens(closed: str, waits: list[float]) -> None:
    with hub.cache_only_without_hub() as why:
        assert constants.HF_HUB_OFFLINE
    assert why is not None
    assert why.startswith(f"{closed} cannot be reached (")
    assert not constants.HF_HUB_OFFLINE


def test_a_model_is_refused_with_the_reason(closed: str, waits: list[float]) -> None:
    with pytest.raises(ModelError, match=rf"model 'org/absent' cannot be loaded: {closed} cannot be reached .*network"):
        load_tokenizer("org/absent")
    assert waits == [0, 1]  # between our two requests; the libraries make none


def test_a_hub_that_answers_is_asked(closed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with local_hub("org/name", tmp_path) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with hub.cache_only_without_hub() as why:  # its front page is not there, which is an answer
            assert not constants.HF_HUB_OFFLINE
    assert why is None


def test_off_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "why_unreachable", lambda: pytest.fail("it was asked"))
    with hub.cache_only_without_hub() as why:
        assert why is None
