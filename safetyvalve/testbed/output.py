"""What an experiment hands back, and how it is written: raw results as CSV, figures as SVG."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetyvalve.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Outcome", "Table", "listed", "markdown", "new_figure", "write"]


class Table(NamedTuple):
    """Named columns and rows of figures and words."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]


class Outcome(NamedTuple):
    """One experiment's results.

    name: the sub-command.
    headline: what to print first, a finding a line.
    tables: summaries, by name; printed, and written as CSV.
    raw: every single result, by name; written as CSV only.
    figures: matplotlib figures by name.
    """

    name: str
    headline: list[str]
    tables: dict[str, Table]
    raw: dict[str, Table]
    figures: dict[str, Figure]


def write(outcome: Outcome, folder: Path) -> list[Path]:
    """Write an outcome into a folder, made if it is missing, and return the files.

    Raises:
        RunError: the folder cannot be written.
    """
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, tables in (("", outcome.tables), ("_raw", outcome.raw)):
            for name, table in tables.items():
                files.append(folder / f"{name}{kind}.csv")
                with files[-1].open("w", newline="", encoding="utf-8") as out:
                    writer = csv.writer(out)
                    writer.writerow(table.columns)
                    writer.writerows([_cell(c) for c in row] for row in table.rows)
        text = [f"# {outcome.name}", "", *[f"- {line}" for line in outcome.headline]]
        for name, table in outcome.tables.items():
            text += ["", f"## {name}", "", markdown(table)]
        files.append(folder / f"{outcome.name}.md")
        files[-1].write_text("\n".join(text) + "\n", encoding="utf-8")
        for name, figure in outcome.figures.items():
            files.append(folder / f"{name}.svg")
            _save(figure, files[-1])
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}. Pass another folder with --out.") from error
    return files


def listed(values: Iterable[float]) -> str:
    """One number a data set as one cell, separated by spaces: every single result without a row for each."""
    return " ".join(f"{value:.6g}" for value in values)


def markdown(table: Table) -> str:
    """A table as people read it."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in table.rows]
    return "\n".join(lines)


def new_figure(width: float, height: float, panels: int, *, share_y: bool = False) -> tuple[Figure, list[Any]]:
    """A figure without a display, and its panels from left to right."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False, sharey=share_y)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
    return figure, list(axes)


def _save(figure: Figure, path: Path) -> None:
    import matplotlib

    # The same run gives the same bytes: no date, and identifiers from a fixed salt.
    with matplotlib.rc_context({"svg.hashsalt": "safetyvalve", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else f"{value}"
