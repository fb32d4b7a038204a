"""Versions, the model in the cache, and the hub."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from safetyvalve.doctor import software
from safetyvalve.doctor.finding import Finding


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_version_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        software, "_requirements", lambda _: [Requirement("torch>=99"), Requirement("nosuchpackage>=1")]
    )
    found = only(software.packages())
    assert found.status == "problem"
    assert "torch >=99 is required" in found.found
    assert "nosuchpackage >=1 is required, missing" in found.found
    assert "pip install" in found.remedy


def test_a_version_other_than_the_tested_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_requirements", lambda _: [Requirement("PyYAML>=1")])
    monkeypatch.setattr(software, "_tested", lambda: {"pyyaml": "0.1"})
    found = only(software.packages())
    assert found.status == "note"
    assert "(tested 0.1)" in found.found


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    assert software._tested()["pyyaml"].count(".") >= 1


def test_the_model_is_in_the_cache_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path))
    assert "fetches it" in only(software.models()).found
    assert not list(tmp_path.iterdir())


def test_the_hub_that_answers_or_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in only(software.hub()).found
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("no_proxy", "*")
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")

    def answer() -> None:
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    assert only(software.hub()).status == "ok"
    thread.join()
    # It listens and is silent now.
    silent = only(software.hub(seconds=0.1))
    server.close()
    assert silent.status == "note"
    assert silent.remedy


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from safetyvalve.cli import main

    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path))
    assert main(["doctor", "--json", "--output", str(tmp_path / "runs")]) == 0
    findings = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
    assert {
        "python",
        "packages",
        "gpu",
        "processor",
        "arithmetic",
        "kernels",
        "memory",
        "output",
        "cache",
        "model",
        "hub",
    } <= (findings.keys())
    assert all(f["remedy"] for f in findings.values() if f["status"] != "ok")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "file"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "problem  cache" in out
    assert "-> Set SAFETYVALVE_CACHE" in out
