"""The command: where it writes and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from safetyvalve.cli.report import default_output, report
from safetyvalve.errors import RunError
from safetyvalve.report import finding, read_run
from tests.report.runs import make_run


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(report)
    return app


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [
        make_run(tmp_path / "runs" / "a", "dpo", [0.5, 1.0, 1.2, 0.9, 0.6]),
        make_run(tmp_path / "runs" / "b", "rpo", [0.5, 0.8, 1.0, 1.1, 1.2]),
    ]


def test_one_run_writes_into_it_and_prints_the_finding(app: typer.Typer, pair: list[Path]) -> None:
    result = CliRunner().invoke(app, [str(pair[0])])
    assert result.exit_code == 0, result.output
    target = pair[0] / "report.html"
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert result.stdout.splitlines() == [str(target), *finding([read_run(pair[0])]).sentences]


def test_several_runs_write_into_the_folder_that_holds_them(app: typer.Typer, pair: list[Path]) -> None:
    result = CliRunner().invoke(app, [*map(str, pair), "--lang", "ja"])
    assert result.exit_code == 0, result.output
    target = pair[0].parent / "report.html"
    assert result.stdout.splitlines()[0] == str(target)
    assert "過剰最適化" in result.stdout
    assert '<html lang="ja">' in target.read_text(encoding="utf-8")


def test_output_is_taken(app: typer.Typer, pair: list[Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(pair[0]), "--output", str(tmp_path / "x" / "y.html")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "x" / "y.html").is_file()
    assert not (pair[0] / "report.html").exists()


def test_other_languages_are_refused(app: typer.Typer, pair: list[Path]) -> None:
    assert CliRunner().invoke(app, [str(pair[0]), "--lang", "fr"]).exit_code == 2


def test_errors_are_left_to_the_root(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(result.exception, RunError)
    assert not (tmp_path / "report.html").exists()


def test_default_output(tmp_path: Path) -> None:
    assert default_output([tmp_path / "a"]) == tmp_path / "a" / "report.html"
    assert default_output([tmp_path / "x" / "a", tmp_path / "y" / "b"]) == tmp_path.resolve() / "report.html"
