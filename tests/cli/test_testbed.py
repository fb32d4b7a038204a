"""``safetyvalve testbed``: what is printed, what is written, and what stays unimported until it is needed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from typer.testing import CliRunner

import safetyvalve
from safetyvalve.cli.testbed import app
from safetyvalve.errors import UsageError

HEAVY = {"torch", "numpy", "scipy", "matplotlib", "safetyvalve.testbed"}


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands() -> None:
    text = invoke("--help")
    for command in ("duality", "overoptimization", "rate", "eta", "limits", "maximin", "all"):
        assert command in text


def test_nothing_heavy_is_imported_for_the_help() -> None:
    tree = ast.parse((Path(safetyvalve.__file__).parent / "cli" / "testbed.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert "typer" in imported
    assert not {name for name in imported if any(name == h or name.startswith(f"{h}.") for h in HEAVY)}


def test_duality_prints_the_largest_gap_and_writes_every_problem(tmp_path: Path) -> None:
    text = invoke("duality", "--problems", "5", "--out", str(tmp_path), "--seed", "4")
    assert "largest gap over 5 problems:" in text
    assert "not certified: 0 of 6" in text
    assert len((tmp_path / "duality_raw.csv").read_text().splitlines()) == 7
    assert (tmp_path / "duality.svg").read_text().lstrip().startswith("<?xml")


def test_an_objective_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cli_losses.py").write_text(
        "import torch.nn.functional as F\n"
        "def squared(pc, pr, rc, rr, *, beta):\n"
        "    return F.softplus(1 - beta * ((pc - rc) - (pr - rr))) ** 2\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["overoptimization", "--setting", "data reference", "--sets", "2", "--out", "out"]
    text = invoke(*arguments, "--objective", "my_cli_losses:squared")
    assert "| data reference | my_cli_losses:squared |" in text
    assert "long tail" not in text
    assert "my_cli_losses:squared" in (tmp_path / "out" / "overoptimization_raw.csv").read_text()


def test_a_wrong_setting_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="setting is 'short tail'; accepted: uniform reference"):
        CliRunner().invoke(app, ["overoptimization", "--setting", "short tail"], catch_exceptions=False)


def test_a_wrong_objective_is_a_usage_error(tmp_path: Path) -> None:
    arguments = ["overoptimization", "--objective", "nowhere", "--out", str(tmp_path)]
    with pytest.raises(UsageError, match="must be module:function"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not list(tmp_path.iterdir())
