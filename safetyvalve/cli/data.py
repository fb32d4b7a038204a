"""``safetyvalve data``: look at preference data before anything is trained on it."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(help="Look at preference data.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Look at preference data before anything is trained on it."""


@app.command()
def check(
    file: str = typer.Argument(
        help="JSONL, JSON, CSV, TSV or Parquet; a datasets or Parquet folder; or a hub name, ORG/NAME[:SPLIT]."
    ),
    format: str = typer.Option("auto", help="Form of the rows, see docs/data.md; auto recognises it."),
    encoding: str = typer.Option("auto", help="Of text files, such as cp932; auto recognises it or refuses."),
    json: bool = typer.Option(False, "--json", help="Print the whole report as JSON."),
) -> None:
    """Say what would be kept and dropped, and why, with rows."""
    from safetyvalve.data import load_preferences

    report = load_preferences(file, form=format, max_drop=1.0, encoding=encoding).report
    if json:
        print(report.model_dump_json(indent=2))
    else:
        print("\n".join(report.lines()))
