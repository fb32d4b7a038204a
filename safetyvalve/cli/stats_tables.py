"""An overview of verdicts as tables for a terminal or a log."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safetyvalve.stats import Interval, Overview, Sequential

__all__ = ["print_overview", "titled_table"]


def print_overview(overview: Overview) -> None:
    """Print everything; lines are not cut where output is no terminal."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=200)
    percent = f"{overview.confidence * 100:.4g}%"
    for table in (_pairs(overview, percent), *_rankings(overview, percent), _agreement(overview, percent)):
        if table.row_count:
            console.print()
            console.print(table)
    for table in (_judges(overview, percent), _meaning(overview, percent), _corrected(overview, percent)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print("\n[bold]What cannot be concluded, and what to know[/bold]")
    for line in overview.cautions or ["Nothing that these checks look for."]:
        console.print(f"- {escape(line)}")
    if overview.gold:
        console.print(f"- {overview.gold} verdicts on gold items are left out of everything above.")


def titled_table(title: str, *columns: str, text: int = 1) -> Table:
    """An empty table; its first ``text`` columns are words, the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < text else "right", no_wrap=i >= text)
    return table


def _share(interval: Interval | Sequential | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.estimate:.1%} {_ends(interval.low, interval.high)}"


def _ends(low: float, high: float) -> str:
    return f"[{_percent(low)}, {_percent(high)}]".replace("[", "\\[", 1)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "?"


def _points(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval.estimate:+.1f} \\[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _number(interval: Interval) -> str:
    return f"{interval.estimate:.3f} \\[{interval.low:.3f}, {interval.high:.3f}]"


def _pairs(overview: Overview, percent: str) -> Table:
    table = titled_table(
        f"Win rate of A, ties one half ({percent})",
        "raters",
        "A against B",
        "win rate, prompts vary",
        "people vary too",
        "at equal length",
        "at any time",
        "log e",
        "prompts",
        "verdicts",
        "ties",
        "none",
        text=2,
    )
    for p in overview.pairs:
        names = escape(f"{p.model_a} / {p.model_b}")
        if p.rate is None or p.anytime is None:
            table.add_row(escape(p.raters), names, *["-"] * 6, "0", "-", str(p.none))
            continue
        mark = {"better": " A", "worse": " B", "open": "  "}[p.rate.shows]
        table.add_row(
            escape(p.raters),
            names,
            _share(p.rate.interval) + mark,
            _ends(p.crossed.low, p.crossed.high) if p.crossed else "-",
            _share(p.controlled.interval) if p.controlled else "-",
            _ends(p.anytime.low, p.anytime.high),
            f"{p.anytime.log_e:.1f}",
            str(p.anytime.n),
            str(p.rate.verdicts),
            f"{p.rate.ties:.0%}",
            str(p.none),
        )
    return table


def _rankings(overview: Overview, percent: str) -> list[Table]:
    tables = []
    for line in overview.rankings:
        if line.ranking is None:
            continue
        table = titled_table(
            f"Ranking by {escape(line.raters)}: Bradley-Terry ({percent})",
            "model",
            "rank",
            "log-odds above average",
            "Elo",
        )
        for m in line.ranking.models:
            ranks = str(m.best_rank) if m.best_rank == m.worst_rank else f"{m.best_rank}-{m.worst_rank}"
            table.add_row(escape(m.model), ranks, _number(m.strength), f"{m.elo:.0f}")
        tables.append(table)
    return tables


def _agreement(overview: Overview, percent: str) -> Table:
    table = titled_table(
        f"Agreement of people ({percent})", "who", "measure", "coefficient", "same verdict", "items", text=2
    )
    for line in overview.agreement:
        if line.agreement is not None:
            a = line.agreement
            table.add_row(escape(line.who), line.measure, _number(a.interval), f"{a.raw:.1%}", str(a.units))
    return table


def _judges(overview: Overview, percent: str) -> Table:
    table = titled_table(
        f"Judges against people ({percent}); bias in percentage points",
        "judge",
        "items",
        "no verdict",
        "both orders",
        "differed",
        "with people",
        "accuracy",
        "kappa",
        "first",
        "longer",
        "own family",
    )
    for j in overview.judges:
        table.add_row(
            escape(j.judge),
            str(j.items),
            str(j.none),
            str(j.both_orders),
            str(j.disagreed),
            str(j.common),
            _share(j.accuracy),
            _number(j.kappa.interval) if j.kappa else "-",
            _points(j.position),
            _points(j.length),
            _points(j.family),
        )
    return table


def _meaning(overview: Overview, percent: str) -> Table:
    table = titled_table(
        f"What a judge's verdict means: people's score of A ({percent})", "judge", "says", "people", "items", text=2
    )
    for j in overview.judges:
        for m in j.meaning:
            table.add_row(escape(j.judge), m.judge, _share(m.human), str(m.items))
    return table


def _corrected(overview: Overview, percent: str) -> Table:
    table = titled_table(
        f"People and judge together: win rate of A by PPI++ ({percent})",
        "judge",
        "A against B",
        "together",
        "people alone",
        "judge alone (biased)",
        "work saved",
        "prompts by people",
        text=2,
    )
    for c in overview.corrected:
        r = c.result
        saved = f"{r.saving:.0%}" if r.human_only.standard_error > 0 else "-"
        table.add_row(
            escape(c.judge),
            escape(f"{c.model_a} / {c.model_b}"),
            _share(r.interval),
            _share(r.human_only),
            _share(r.judge_only),
            saved,
            str(r.interval.n),
        )
    return table
