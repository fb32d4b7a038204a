"""``safetyvalve kpi``: the small table for a manager's wall, people's judgment first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from safetyvalve.cli.sheets import (
    Baseline,
    Candidate,
    Confidence,
    CsatRange,
    Encoding,
    Evaluation,
    JudgeName,
    Output,
    SheetName,
    Since,
    Until,
    VerdictFiles,
    print_sheet,
    read_judging_of,
    read_quality,
    read_tickets_of,
)

__all__ = ["kpi"]


def kpi(
    tickets: Annotated[
        list[Path] | None, typer.Argument(help="Ticket files: CSV, TSV, JSONL, Parquet or xlsx.", show_default=False)
    ] = None,
    verdicts: VerdictFiles = None,
    candidate: Candidate = None,
    baseline: Baseline = None,
    judge: JudgeName = None,
    evaluation: Evaluation = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of the new model, for its reward and length.", rich_help_panel="Run", show_default=False
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help="Variant without the new system.", rich_help_panel="Tickets", show_default=False),
    ] = None,
    treatment: Annotated[
        str | None, typer.Option(help="Variant with it.", rich_help_panel="Tickets", show_default=False)
    ] = None,
    encoding: Encoding = "auto",
    sheet: SheetName = None,
    csat_range: CsatRange = "1,5",
    since: Since = None,
    until: Until = None,
    confidence: Confidence = 0.95,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language.", rich_help_panel="Answer")] = "en",
    output: Output = None,
) -> None:
    """Print the key figures: human win rate, both bad, edits, complaints, satisfaction; the reward score last.

    A figure that is not known is shown as not known, with how to get it. Under 300 prompts with verdicts of people a
    judge helps, corrected by them. The reward score is marked as not sufficient: it may rise while answers get worse.
    """
    from safetyvalve.release.kpi import compute_kpis
    from safetyvalve.release.kpi_sheet import kpi_sheet
    from safetyvalve.release.sheet import write_files
    from safetyvalve.report import read_run

    found = compute_kpis(
        quality=read_quality(verdicts, candidate, baseline, judge, confidence),
        tickets=read_tickets_of(tickets, encoding, sheet, csat_range, since, until) if tickets else None,
        control=control,
        treatment=treatment,
        judging=read_judging_of(evaluation),
        run=None if run is None else read_run(run),
        files=[str(f) for f in (*(verdicts or []), *(tickets or []), *(evaluation or []), *([run] if run else []))],
        confidence=confidence,
    )
    page = kpi_sheet(found, lang)
    print_sheet(page)
    if output is not None:
        for file in write_files(page, found.model_dump_json(indent=2), "kpi", output):
            typer.echo(f"written: {file}")
