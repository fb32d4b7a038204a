"""``safetyvalve doctor``: what this machine can do and what it lacks."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.exceptions import Exit

__all__ = ["doctor"]


def doctor(
    output: Path = typer.Option(Path("runs"), help="Where run folders will go."),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Look at the machine and explain: ok, note (limits or slows something) or problem, with the remedy.

    Takes some seconds and changes nothing. The exit status is 1 only with a problem.
    """
    from safetyvalve.doctor import examine

    findings = []
    for finding in examine(output):
        findings.append(finding)
        if not json:
            print(f"{finding.status:<8} {finding.check:<11} {finding.found}", flush=True)
            if finding.remedy:
                print(f"{'':<20} -> {finding.remedy}")
    problems, notes = (sum(f.status == status for f in findings) for status in ("problem", "note"))
    if json:
        from json import dumps

        print(dumps([f._asdict() for f in findings], ensure_ascii=False, indent=2))
    else:
        print(f"{len(findings)} checks: {problems} problems, {notes} notes")
    if problems:
        raise Exit(1)
