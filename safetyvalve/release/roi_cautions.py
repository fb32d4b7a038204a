"""What to know before believing a return, and a check of difference in differences on time when nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from scipy.stats import beta

from safetyvalve.errors import DataError
from safetyvalve.release.labour import Judging
from safetyvalve.release.quality import HumanWinRate
from safetyvalve.release.roi_assumptions import Assumptions
from safetyvalve.release.roi_effects import FEW_UNITS, Change, Changes, measure_changes
from safetyvalve.release.roi_record import Caution
from safetyvalve.release.roi_study import Cells, Study, divide
from safetyvalve.release.tickets import Tickets

__all__ = ["find_cautions", "placebo"]

LEAST_KNOWN = 0.8
"""Share of tickets that know a quantity, under which the others may differ."""
FEW_EVENTS = 10
"""Under so many complaints or incidents a bootstrap is too sure: of none it draws none."""
SETTLED_MONTHS = 3
"""Months under which complaints and satisfaction have hardly begun to show."""

Checks = Sequence[tuple[Change, tuple[str, ...]]]


def placebo(
    tickets: Tickets, study: Study, handle_includes_edit: bool, replicates: int, seed: int, confidence: float
) -> Checks:
    """Difference in differences between the halves of the time before the launch.

    Empty for other designs, and where a half has no tickets of a group, so that nothing can be said.
    """
    if study.design != "did" or study.launch is None:
        return []
    before = tuple(t for t in tickets.rows if t.created_at.replace(tzinfo=None) < study.launch)
    if len(before) < 2:
        return []
    first = before[0].created_at.replace(tzinfo=None)
    middle = study._replace(launch=_day(first + (study.launch - first) / 2))
    try:
        cells = divide(Tickets(before, tickets.files, 0), middle)
        changes = measure_changes(
            cells,
            middle,
            handle_includes_edit=handle_includes_edit,
            replicates=replicates,
            generator=np.random.default_rng(seed),
            confidence=confidence,
        )
    except DataError:
        return []
    return [(change, cells.names) for change in changes.found.values()]


def _day(when: datetime) -> datetime:
    return datetime(when.year, when.month, when.day) + timedelta(days=1)


def find_cautions(
    tickets: Tickets,
    study: Study,
    cells: Cells,
    changes: Changes,
    assumptions: Assumptions,
    judging: Judging | None,
    quality: HumanWinRate | None,
    checks: Checks,
) -> list[Caution]:
    """Keys of roi_text with their values, the gravest first."""
    found: list[Caution] = []

    def say(message: str, **values: object) -> None:
        found.append(Caution(key=message, values={k: str(v) for k, v in values.items()}))

    if study.design == "before-after":
        say("before_after")
    if study.design == "did":
        moved = [c.key for c, _ in checks if c.difference.low > 0 or c.difference.high < 0]
        if moved:
            say("did_placebo_fails", quantities=", ".join(moved))
        else:
            say("did_placebo_holds" if checks else "did_placebo_none")
    if changes.few:
        say("few_units", units=" / ".join(map(str, changes.units)), unit=study.unit, least=FEW_UNITS)
    if "harm" not in changes.found and "harm_rate" not in assumptions.numbers:
        say("no_harm")
    if "redeployed" not in assumptions.numbers:
        say("no_redeployed")
    for change in changes.found.values():
        for name, known, rows in zip(cells.names, change.known, cells.tickets, strict=True):
            of = sum(bool(t.edited) for t in rows) if change.key == "edit_minutes" else len(rows)
            if known < LEAST_KNOWN * of:
                say("little_known", quantity=change.key, cell=name, known=known, of=of)
    for key in ("complaints", "harm"):
        if key not in changes.found:
            continue
        for name, known, rows in zip(cells.names, changes.found[key].known, cells.tickets, strict=True):
            events = sum(bool(getattr(t, key.removesuffix("s"))) for t in rows)
            if events < FEW_EVENTS:
                most = float(beta.ppf(0.975, events + 1, known - events)) if events < known else 1.0
                say("rare", quantity=key, cell=name, events=events, known=known, most=f"{most:.2%}")
    if judging is not None and judging.untimed:
        say("untimed", untimed=judging.untimed, of=judging.votes + judging.corrections)
    if judging is not None and judging.edit_minutes and not any(t.edited and t.edit_min for t in tickets.rows):
        say("edit_minutes_of_app")
    if quality is not None and quality.judge is not None and not quality.random_sample:
        say("not_drawn", judge=quality.judge)
    months = len(tickets.months)
    if assumptions.horizon_months > months:
        say("extrapolated", horizon=assumptions.horizon_months, months=months)
    if months < SETTLED_MONTHS and ("complaints" in changes.found or "satisfaction" in changes.found):
        say("long_term_early", months=months)
    return found
