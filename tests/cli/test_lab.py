"""The laboratory's command: options that are refused, and a report of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyvalve.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["lab", *arguments]) != 0
    return " ".join(capsys.readouterr().err.split())


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--output", str(tmp_path / "lab"))
    assert "--preset is 'huge'; accepted: small, tiny" in run(capsys, "run", *out, "--preset", "huge")
    assert "--gold is 'nobody', which is no folder" in run(capsys, "run", *out, "--gold", "nobody")
    assert "--method is 'ppo'" in run(capsys, "run", *out, "--method", "ppo")
    assert "beta is 0.0" in run(capsys, "run", *out, "--beta", "0")
    assert not (tmp_path / "lab").exists()
    assert "holds no experiment" in run(capsys, "report", str(tmp_path))
