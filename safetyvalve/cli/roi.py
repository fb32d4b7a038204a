"""``safetyvalve roi``: whether a new system is worth it, net of the people who judge it."""

from __future__ import annotations

from datetime import datetime
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

__all__ = ["roi"]


def roi(
    tickets: Annotated[
        list[Path] | None, typer.Argument(help="Ticket files: CSV, TSV, JSONL, Parquet or xlsx.", show_default=False)
    ] = None,
    design: Annotated[
        Literal["randomised", "did", "before-after"] | None,
        typer.Option(
            help="How tickets came to be under the new system: by a coin; two groups before and after --launch in one "
            "of them (difference in differences); or one group before and after. Printed beside every amount.",
            rich_help_panel="Study",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        Literal["customer", "agent", "ticket"] | None,
        typer.Option(
            help="What was assigned to old or new, and is independent.", rich_help_panel="Study", show_default=False
        ),
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="Variant without the new system.", rich_help_panel="Study", show_default=False)
    ] = None,
    treatment: Annotated[
        str | None, typer.Option(help="Variant with it.", rich_help_panel="Study", show_default=False)
    ] = None,
    launch: Annotated[
        datetime | None,
        typer.Option(help="Day it began.", formats=["%Y-%m-%d"], rich_help_panel="Study", show_default=False),
    ] = None,
    assumptions: Annotated[
        Path | None,
        typer.Option(
            help="YAML of prices and volumes; --template prints one.", rich_help_panel="Prices", show_default=False
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE or NAME=LOW,MODE,HIGH of an assumption, over the file; may be repeated.",
            rich_help_panel="Prices",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        bool,
        typer.Option("--template", help="Print a commented file of assumptions and exit.", rich_help_panel="Prices"),
    ] = False,
    example: Annotated[
        Path | None,
        typer.Option(
            "--example",
            help="Write ticket files that nobody wrote and a file of assumptions into this folder, and exit.",
            rich_help_panel="Prices",
            show_default=False,
        ),
    ] = None,
    evaluation: Evaluation = None,
    verdicts: VerdictFiles = None,
    candidate: Candidate = None,
    baseline: Baseline = None,
    judge: JudgeName = None,
    encoding: Encoding = "auto",
    sheet: SheetName = None,
    csat_range: CsatRange = "1,5",
    since: Since = None,
    until: Until = None,
    confidence: Confidence = 0.95,
    replicates: Annotated[int, typer.Option(help="Joint draws.", rich_help_panel="Answer")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the draws.", rich_help_panel="Answer")] = 0,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language.", rich_help_panel="Answer")] = "en",
    output: Output = None,
) -> None:
    """Compute the return of a new system: rework, handling, complaints, harm, and all that it costs.

    Short and long term are apart; quality and satisfaction are points, and money only at a rate that you give. The
    interval, the chance that the net is above 0 and the payback come from one joint draw of tickets and assumptions.
    """
    from safetyvalve.errors import UsageError
    from safetyvalve.release.roi import compute_roi
    from safetyvalve.release.roi_assumptions import read_assumptions
    from safetyvalve.release.roi_assumptions import template as text_of_template
    from safetyvalve.release.roi_sheet import roi_sheet
    from safetyvalve.release.roi_study import Study
    from safetyvalve.release.sheet import write_files

    if template:
        typer.echo(text_of_template(lang), nl=False)
        return
    if example is not None:
        _write_example(example, lang)
        return
    if not tickets:
        raise UsageError("no ticket files were given; name at least one. --template prints a file of assumptions.")
    if design is None or unit is None:
        raise UsageError(
            f"--design is {design} and --unit {unit}; both must be said, as amounts are worth what the comparison is "
            "worth. See docs/roi.md for which is yours."
        )
    found = compute_roi(
        read_tickets_of(tickets, encoding, sheet, csat_range, since, until),
        Study(design, unit, control, treatment, launch),
        read_assumptions(assumptions, _named(set_ or [])),
        judging=read_judging_of(evaluation),
        quality=read_quality(verdicts, candidate, baseline, judge, confidence),
        replicates=replicates,
        seed=seed,
        confidence=confidence,
    )
    page = roi_sheet(found, lang)
    print_sheet(page)
    if output is not None:
        for file in write_files(page, found.model_dump_json(indent=2), "roi", output):
            typer.echo(f"written: {file}")


def _write_example(folder: Path, lang: str) -> None:
    from safetyvalve.release.examples import write_examples
    from safetyvalve.release.roi_assumptions import template

    files = write_examples(folder)
    prices = folder / "assumptions.yaml"
    prices.write_text(template(lang), encoding="utf-8")
    tickets, control, treatment = (files[1], "現行", "新方式") if lang == "ja" else (files[0], "current", "rpo")
    for file in (*files, prices):
        typer.echo(f"written: {file}")
    typer.echo(
        f"safetyvalve roi {tickets} --design randomised --unit customer --control {control} --treatment {treatment} "
        f"--assumptions {prices} --set evaluation_hours=40 --lang {lang}"
    )


def _named(words: list[str]) -> dict[str, str]:
    from safetyvalve.errors import UsageError

    named: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value or name in named:
            raise UsageError(f"--set is '{word}'; NAME=VALUE is accepted, each name once.")
        named[name.strip()] = value.strip()
    return named
