"""A release's record on the terminal."""

from __future__ import annotations

import json as json_module

import typer

from safetyvalve.release.staged.record import ReleaseRecord, plain
from safetyvalve.release.staged.simulate import Days, Simulated
from safetyvalve.release.staged.text import Words

__all__ = ["forecast", "show"]


def show(record: ReleaseRecord, *, lang: str, json: bool, checked: str | None = None) -> None:
    """Print a record.

    Args:
        record: of the release.
        lang: ``en`` or ``ja``.
        json: as JSON, with everything.
        checked: the kept head that the log was held against, if there was one.
    """
    if json:
        typer.echo(json_module.dumps(plain(record), ensure_ascii=False, indent=2))
        return
    words = Words(lang)
    typer.echo(
        words(
            "title",
            name=record.name,
            state=words(f"state.{record.state}"),
            stage=record.stage,
            share=record.share,
        )
    )
    typer.echo(words("decision", outcome=words.outcome(record.outcome)))
    for code, values in record.reasons:
        typer.echo("  " + words.reason(code, values))
    if record.promoted_to is not None:
        typer.echo("  " + words("went_on", to=record.promoted_to, share=record.share))
    if record.outcome == "rollback":
        typer.echo("  " + words("stopped"))
    typer.echo("")
    for line in _table([words("columns").split("|"), *(words.gate(gate) for gate in record.gates)]):
        typer.echo(line)
    typer.echo(words("bounds", rate=1 - record.settings.error_rates.promote))
    first, *rest = words.valve(record.valve)
    typer.echo(f"\n{words('valve')}: {first}")
    for line in rest:
        typer.echo("  " + line)
    typer.echo(f"\n{words('approvals')}:" + ("" if record.approvals else f" {words('approval.none')}"))
    for approval in record.approvals:
        typer.echo("  " + words.approval(approval))
    typer.echo("\n" + words("evidence", hash=record.evidence_hash, n=record.observations, earlier=record.earlier))
    typer.echo(words("head", head=record.head))
    typer.echo(words("verified", head=words("verified.kept" if checked else "verified.alone")))


def forecast(found: Simulated, *, lang: str) -> list[str]:
    """What a simulation found, as lines."""
    words = Words(lang)

    def days(value: Days | None) -> str:
        return "-" if value is None else words("sim.days", early=value.early, median=value.median, late=value.late)

    lines = [words("sim.title", releases=found.releases, days=found.days)]
    for stage in found.stages:
        lines.append("  " + words("sim.stage", stage=stage.stage))
        lines.append("    " + words("sim.good", rate=stage.good_leaves, days=days(stage.days), slowest=stage.slowest))
        lines.append("    " + words("sim.stopped", rate=stage.good_stopped))
        lines.append("    " + words("sim.bad", rate=stage.bad_leaves, metric=stage.bad_metric))
        if stage.harm_stopped is not None:
            lines.append("    " + words("sim.harm", rate=stage.harm_stopped, days=days(stage.harm_days)))
    lines.append(words("sim.all.good", rate=found.good_reaches_full))
    lines.append(words("sim.all.stopped", rate=found.good_stopped, allowed=found.allowed_stop))
    lines.append(words("sim.all.bad", rate=found.bad_reaches_full, metric=found.bad_metric, allowed=found.allowed_bad))
    if found.left_out:
        lines.append(words("sim.left_out", metrics=", ".join(found.left_out)))
    lines.append(words("sim.assumed"))
    return lines


def _table(rows: list[list[str]]) -> list[str]:
    """Columns under each other; Japanese characters are two cells wide."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
