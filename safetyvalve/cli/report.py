"""``safetyvalve report``: run folders to one self-contained page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["default_output", "report"]


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, one or more.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write. Default: report.html in the run, or in the folder that holds all the runs."),
    ] = None,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the page.")] = "en",
) -> None:
    """Write a report: what the runs show in two sentences, with figures, answers, settings and limits.

    The page is one HTML file that loads nothing from elsewhere. It says whether a run overoptimized its reward by an
    independent score, and says so plainly where there is none. A trained model that has no model card yet gets one.
    """
    from safetyvalve.report import build_report, finding, read_run, save_page, write_card

    records = [read_run(path) for path in runs]
    page = build_report(records, lang)
    typer.echo(save_page(page, default_output(runs) if output is None else output))
    for run in runs:
        if card := write_card(run):
            typer.echo(card)
    typer.echo(str(finding(records, lang)))


def default_output(runs: list[Path]) -> Path:
    """``report.html`` in the one run, or in the deepest folder that holds all the runs."""
    if len(runs) == 1:
        return runs[0] / "report.html"
    return Path(os.path.commonpath([run.resolve().parent for run in runs])) / "report.html"
