"""``safetyvalve decision``: runs, key figures, return and release record to a page that a decision is taken on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from safetyvalve.cli.sheets import read_quality
from safetyvalve.errors import UsageError

__all__ = ["decision"]


def decision(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, the candidate's first.", show_default=False)],
    release: Annotated[Path | None, typer.Option(help="Folder of `safetyvalve release`.", show_default=False)] = None,
    kpi: Annotated[Path | None, typer.Option(help="kpi.json of `safetyvalve kpi`.", show_default=False)] = None,
    verdicts: Annotated[
        list[Path] | None,
        typer.Option(help="Verdicts of people, in place of --kpi; may be repeated.", show_default=False),
    ] = None,
    roi: Annotated[Path | None, typer.Option(help="roi.json of `safetyvalve roi`.", show_default=False)] = None,
    plan: Annotated[Path | None, typer.Option(help="plan.json of `safetyvalve plan`.", show_default=False)] = None,
    candidate: Annotated[
        str | None, typer.Option(help="The candidate's name in release and verdicts. Default: its run's.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="With --verdicts: the old model, as they name it.", show_default=False)
    ] = None,
    trainer: Annotated[
        list[str] | None, typer.Option(help="Who trained it, where no file says so; may be repeated.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Head of the release's log from an earlier report, to check against.")
    ] = None,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the page.")] = "en",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. Default: decision.html in the first run.")
    ] = None,
) -> None:
    """Write a decision report: release, hold or roll back, on what grounds, with risks, next steps and a form.

    One HTML file that loads nothing and prints on A4. The proposal follows a stated rule from the release's gates, the
    evidence on overoptimization and people's verdicts; what is missing is named with the command that makes it, and
    means hold. The reward, or a judge alone, never leads to a release.
    """
    from safetyvalve.release.kpi import compute_kpis
    from safetyvalve.report import read_run, save_page
    from safetyvalve.report.decision import build_decision, proposal_of, read_kpis, read_material

    if kpi is not None and verdicts:
        raise UsageError("--kpi and --verdicts are both given; kpi.json was made of verdicts. Give one of them.")
    if baseline is not None and not verdicts:
        raise UsageError("--baseline is about verdicts, and none are given; add --verdicts, or leave it out.")
    if head is not None and release is None:
        raise UsageError("--head is about a release's log, and no release is given; add --release, or leave it out.")
    figures = None if kpi is None else read_kpis(kpi)
    if verdicts:
        record = read_run(runs[0])
        found = read_quality(verdicts, candidate or record.name, baseline, None, 0.95)
        figures = compute_kpis(quality=found, run=record, files=[str(f) for f in (*verdicts, runs[0])])
    material = read_material(
        runs, candidate=candidate, release=release, head=head, kpis=figures, roi=roi, plan=plan, trainers=trainer or ()
    )
    page = build_decision(material, lang)
    typer.echo(save_page(page, runs[0] / "decision.html" if output is None else output))
    typer.echo(proposal_of(material, lang))
