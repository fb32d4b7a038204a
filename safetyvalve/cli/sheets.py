"""Sheets of sentences and tables on a terminal, and the options by which commands read tickets and verdicts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from safetyvalve.release.labour import Judging
    from safetyvalve.release.quality import HumanWinRate
    from safetyvalve.release.sheet import Sheet
    from safetyvalve.release.tickets import Tickets

__all__ = [
    "Baseline",
    "Candidate",
    "Confidence",
    "CsatRange",
    "Encoding",
    "Evaluation",
    "JudgeName",
    "Lang",
    "Output",
    "SheetName",
    "Since",
    "Until",
    "VerdictFiles",
    "print_sheet",
    "read_judging_of",
    "read_quality",
    "read_tickets_of",
]

_DAYS = ["%Y-%m-%d"]


def _option(group: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=group, show_default=more.pop("show_default", False), **more)


VerdictFiles = Annotated[
    list[Path] | None,
    _option("People", "Verdicts of people, and of a judge to help them; may be repeated.", "--verdicts"),
]
Candidate = Annotated[str | None, _option("People", "The new model, as the verdicts name it.")]
Baseline = Annotated[str | None, _option("People", "The old model; the only other one if left out.")]
JudgeName = Annotated[
    str | None,
    _option("People", "Judge that helps people; if left out, under 300 prompts the one with most.", "--judge"),
]
Evaluation = Annotated[
    list[Path] | None,
    _option("People", "Folder of `safetyvalve annotate export`, for its timers; may be repeated.", "--evaluation"),
]
Encoding = Annotated[str, _option("Tickets", "Of text files; auto recognises it or refuses.", show_default=True)]
SheetName = Annotated[
    str | None, _option("Tickets", "Sheet of a workbook; the first with rows if left out.", "--sheet")
]
CsatRange = Annotated[str, _option("Tickets", "LOW,HIGH of the satisfaction scale.", show_default=True)]
Since = Annotated[datetime | None, _option("Tickets", "Leave out tickets that came in before.", formats=_DAYS)]
Until = Annotated[datetime | None, _option("Tickets", "Leave out tickets from this day on.", formats=_DAYS)]
Confidence = Annotated[float, _option("Answer", "Of every interval.", show_default=True)]
Lang = Annotated[str, _option("Answer", "Language: en or ja.", show_default=True)]
Output = Annotated[Path | None, _option("Answer", "Folder for JSON, Markdown, an HTML fragment and CSV.")]


def read_tickets_of(
    files: list[Path],
    encoding: str,
    sheet: str | None,
    csat_range: str,
    since: datetime | None,
    until: datetime | None,
) -> Tickets:
    """Tickets of files, as the options say."""
    from safetyvalve.errors import UsageError
    from safetyvalve.release.tickets import read_tickets

    try:
        low, high = (float(part) for part in csat_range.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise UsageError(f"--csat-range is '{csat_range}'; LOW,HIGH is accepted, such as 1,5 or 0,10.")
    return read_tickets(files, encoding=encoding, sheet=sheet, csat_range=(low, high), since=since, until=until)


def read_quality(
    files: list[Path] | None, candidate: str | None, baseline: str | None, judge: str | None, confidence: float
) -> HumanWinRate | None:
    """People's win rate of verdict files; None without files."""
    from safetyvalve.errors import UsageError
    from safetyvalve.release.quality import human_win_rate
    from safetyvalve.stats import read_verdicts

    if not files:
        if candidate or baseline or judge:
            raise UsageError(
                "--candidate, --baseline and --judge are about verdicts, and none are given; add --verdicts."
            )
        return None
    verdicts = [v for file in files for v in read_verdicts(file).verdicts]
    if candidate is None:
        models = sorted({m for v in verdicts for m in (v.model_a, v.model_b)})
        raise UsageError(f"--candidate is missing; name the new model, one of: {', '.join(models)}.")
    return human_win_rate(verdicts, candidate, baseline, judge=judge, confidence=confidence)


def read_judging_of(exports: list[Path] | None) -> Judging | None:
    """Hours and minutes of exports; None without any."""
    from safetyvalve.release.labour import read_judging

    return read_judging(exports) if exports else None


def print_sheet(sheet: Sheet) -> None:
    """Print everything; lines are not cut where output is no terminal."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=200)
    console.print(f"[bold]{escape(sheet.title)}[/bold]")
    for sentence in sheet.sentences:
        console.print(escape(sentence))
    for part in sheet.tables:
        table = Table(
            title=escape(part.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for i, name in enumerate(part.columns):
            table.add_column(escape(name), justify="right" if i else "left")
        for row in part.rows:
            table.add_row(*map(escape, row))
        console.print()
        console.print(table)
    if sheet.notes:
        console.print(f"\n[bold]{escape(sheet.notes_title)}[/bold]")
        for note in sheet.notes:
            console.print(f"- {escape(note)}")
