"""``safetyvalve data``: look at preference data before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["app"]

app = typer.Typer(help="Look at preference data.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Look at preference data before anything is trained on it."""


@app.command()
def check(
    file: Path = typer.Argument(help="JSONL, plain or gzipped."),
    format: str = typer.Option("auto", help="Form of the rows: auto, pair, hh-transcript or comparisons."),
    json: bool = typer.Option(False, "--json", help="Print the whole report as JSON."),
) -> None:
    """Say what would be kept and dropped, and why, with rows."""
    from safetyvalve.data import load_preferences

    report = load_preferences(file, form=format, max_drop=1.0).report
    if json:
        print(report.model_dump_json(indent=2))
    else:
        print("\n".join(report.lines()))
