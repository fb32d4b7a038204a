"""``safetyvalve stats``: what a file of verdicts tells, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from safetyvalve.stats import Verdict

__all__ = ["stats"]


def stats(
    files: Annotated[list[Path], typer.Argument(help="Verdicts: JSONL, JSON, CSV or TSV, plain or gzipped.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    confidence: Annotated[float, typer.Option(help="Of every interval on its own.")] = 0.95,
    rater_kind: Annotated[
        Literal["human", "judge", "rubric", "reward"] | None,
        typer.Option(help="Whose verdicts these are, in files that do not say it."),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="JUDGE=MODEL,MODEL: models of a judge's own family, to measure whether it favours them."),
    ] = None,
) -> None:
    """Win rates, rate at equal length, ranking, agreement, judges against people, and what cannot be concluded.

    Ties and both-bad count as half a win. Intervals take prompts as the independent units. Verdicts of people and
    of each judge are never mixed, except by prediction-powered inference, which corrects the judge by the people.
    """
    from safetyvalve.cli.stats_tables import print_overview
    from safetyvalve.stats import read_verdicts, summarize

    verdicts: list[Verdict] = []
    for file in files:
        found = read_verdicts(file, rater_kind=rater_kind)
        typer.echo(f"{file}: {len(found.verdicts)} verdicts, form {found.form}")
        if found.ignored:
            typer.echo(f"  columns not used: {', '.join(found.ignored)}")
        verdicts += found.verdicts
    overview = summarize(verdicts, family=_families(family or []), confidence=confidence)
    print_overview(overview)
    if json is not None:
        _write(overview, json)


def _families(words: list[str]) -> dict[str, list[str]]:
    from safetyvalve.errors import UsageError

    families = {}
    for word in words:
        judge, _, models = word.partition("=")
        if not judge or not models:
            raise UsageError(f"--family is '{word}'; JUDGE=MODEL,MODEL is accepted.")
        families[judge] = [m.strip() for m in models.split(",") if m.strip()]
    return families


def _write(overview: object, file: Path) -> None:
    import json

    from safetyvalve.errors import UsageError
    from safetyvalve.stats.overview import plain

    try:
        file.write_text(json.dumps(plain(overview), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--json {file} cannot be written ({error.strerror}); give a file in a folder that exists."
        ) from None
    typer.echo(f"written: {file}")
