"""What the new system changed in the tickets: estimates and joint draws over the units that were assigned.

Every quantity is a ratio of sums over tickets, so that drawing units again is a product with sums by unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.errors import DataError
from safetyvalve.release.roi_study import Cells, Study
from safetyvalve.release.tickets import Ticket
from safetyvalve.stats import Interval
from safetyvalve.stats.resampling import bootstrap_sums

__all__ = ["FEW_UNITS", "OUTCOMES", "Change", "Changes", "measure_changes"]

Floats = NDArray[np.float64]

FEW_UNITS = 30
"""Under so many units in a variant, draws are widened to Student's t: a bootstrap of few is too narrow."""

OUTCOMES = ("share_edited", "edit_minutes", "handle_minutes", "complaints", "harm", "satisfaction", "reopens")
"""Measured on tickets; ``rework_minutes``, the minutes of correction a ticket, is the product of the first two."""


class Change(NamedTuple):
    """One quantity without and with the new system."""

    key: str
    control: float
    """What it would be without: the control group, the time before, or the treated group's time before moved by what
    the control group's time did."""
    treated: float
    difference: Interval
    """Treated minus control; ``n`` is the smallest number of units in a variant."""
    known: tuple[int, ...]
    """Tickets by cell that know it."""


class Changes(NamedTuple):
    """All quantities, with joint draws."""

    found: Mapping[str, Change]
    draws: Mapping[str, Floats]
    """Treated minus control, [draw], drawn together."""
    missing: Mapping[str, str]
    """Quantity -> why it is not known."""
    units: tuple[int, ...]
    """Independent units by variant."""
    few: bool


def measure_changes(
    cells: Cells,
    study: Study,
    *,
    handle_includes_edit: bool = True,
    edit_minutes: Interval | None = None,
    replicates: int = 10_000,
    generator: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> Changes:
    """Estimate every quantity under the study's design and draw all of them together.

    Units are drawn with replacement within each variant. Under 30 units in a variant the deviations of a draw are all
    multiplied by sqrt(C/(C-1)) and by sqrt(df/chi2_df), df = C-1 of the smallest variant: their quantiles are then
    those of a t interval.

    Args:
        cells: from :func:`safetyvalve.release.roi_study.divide`.
        study: the same.
        handle_includes_edit: whether handling time holds the minutes of correction, which are then taken off.
        edit_minutes: minutes of a correction measured elsewhere, for tickets that do not know them.
        replicates: draws.
        generator: where they come from; seed 0 if not given.
        confidence: of the intervals.

    Raises:
        DataError: fewer than two units in a variant, or corrections longer than the handling they are part of.
    """
    generator = generator or np.random.default_rng(0)
    sums, units = _unit_sums(cells, study, handle_includes_edit)
    for stratum, n in zip(cells.strata, units, strict=True):
        if n < 2:
            first = cells.tickets[stratum[0]][0]
            raise DataError(
                f"is of the only {study.unit} in '{cells.names[stratum[0]]}'; at least two are needed to know how much "
                "they differ. Add tickets of others, or correct --unit.",
                file=first.file,
                row=first.row,
                field=study.unit,
            )
    point = {k: v[0] for k, v in _rates(_totals(sums)[None]).items()}
    drawn = _rates(_drawn_sums(sums, replicates, generator))
    scale = _widening(units, replicates, generator)
    if edit_minutes is not None and np.isnan(point["edit_minutes"]).all():
        _use_edit_minutes(point, drawn, edit_minutes, replicates, generator)
    known = _totals(sums)[:, :, 1]
    found, draws, missing = {}, {}, {}
    tail = 100 * (1 - confidence) / 2
    for key, cell_values in point.items():
        if np.isnan(cell_values).any():
            empty = [name for name, v in zip(cells.names, cell_values, strict=True) if np.isnan(v)]
            missing[key] = f"no ticket of {', '.join(empty)} knows it"
            continue
        control, treated = _compare(cell_values, study)
        control_draws, treated_draws = _compare(_filled(drawn[key], cell_values), study)
        difference = treated - control
        deviations = (treated_draws - control_draws - difference) * scale
        low, high = np.percentile(difference + deviations, [tail, 100 - tail])
        counted = known[:, OUTCOMES.index("share_edited" if key == "rework_minutes" else key)]
        found[key] = Change(
            key,
            float(control),
            float(treated),
            Interval(float(difference), float(low), float(high), float(deviations.std()), min(units)),
            tuple(int(c) for c in counted),
        )
        draws[key] = difference + deviations
    return Changes(found, draws, missing, units, min(units) < FEW_UNITS)


def _unit_sums(cells: Cells, study: Study, handle_includes_edit: bool) -> tuple[list[Floats], tuple[int, ...]]:
    """By stratum [unit, cell, outcome, (sum, count)], with zeros in the cells of other strata."""
    found = []
    for stratum in cells.strata:
        mine = [t for c in stratum for t in cells.tickets[c]]
        cell = [c for c in stratum for _ in cells.tickets[c]]
        codes = {u: i for i, u in enumerate(dict.fromkeys(_unit(t, study) for t in mine))}
        values = np.array([_values(t, handle_includes_edit) for t in mine], dtype=np.float64)
        there = ~np.isnan(values)
        table = np.zeros((len(codes), len(cells.names), len(OUTCOMES), 2))
        at = ([codes[_unit(t, study)] for t in mine], cell)
        np.add.at(table, at, np.stack([np.where(there, values, 0.0), there], axis=-1))
        found.append(table)
    return found, tuple(len(t) for t in found)


def _unit(ticket: Ticket, study: Study) -> str:
    return ticket.ticket_id if study.unit == "ticket" else str(getattr(ticket, study.unit))


def _values(ticket: Ticket, handle_includes_edit: bool) -> Sequence[float | None]:
    """In the order of :data:`OUTCOMES`."""
    handle = ticket.handle_min
    if handle is not None and handle_includes_edit and (ticket.edited or ticket.edit_min):
        if ticket.edit_min is None:
            handle = None  # what is left without the correction is not known
        elif ticket.edit_min > handle:
            raise DataError(
                f"has {ticket.edit_min:g} minutes of correction in {handle:g} minutes of handling. Correct one of "
                "them, or "
                "say handle_includes_edit: false where handling time is without corrections.",
                file=ticket.file,
                row=ticket.row,
                field="edit_min",
            )
        else:
            handle -= ticket.edit_min
    flags = (None if v is None else float(v) for v in (ticket.complaint, ticket.harm))
    edited = None if ticket.edited is None else float(ticket.edited)
    return (edited, ticket.edit_min if ticket.edited else None, handle, *flags, ticket.csat, ticket.reopens)


def _totals(sums: Sequence[Floats]) -> Floats:
    """[cell, outcome, (sum, count)]."""
    total: Floats = np.sum([s.sum(0) for s in sums], axis=0)
    return total


def _drawn_sums(sums: Sequence[Floats], replicates: int, generator: np.random.Generator) -> Floats:
    """[draw, cell, outcome, (sum, count)]."""
    parts = [
        bootstrap_sums(s.reshape(len(s), -1), replicates, generator).reshape(replicates, *s.shape[1:]) for s in sums
    ]
    total: Floats = np.sum(parts, axis=0)
    return total


def _rates(sums: Floats) -> dict[str, Floats]:
    """[draw, cell] of each outcome, NaN where no ticket knows it; and the minutes of correction a ticket."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = sums[..., 0] / sums[..., 1]
    rates = {name: ratio[..., i] for i, name in enumerate(OUTCOMES)}
    rework = _product(rates["share_edited"], rates["edit_minutes"])
    return {
        "share_edited": rates["share_edited"],
        "edit_minutes": rates["edit_minutes"],
        "rework_minutes": rework,
    } | rates


def _product(share: Floats, minutes: Floats) -> Floats:
    """Nothing edited takes no minutes, though the minutes of a correction are then not known."""
    product: Floats = np.where(share == 0, 0.0, share * minutes)
    return product


def _use_edit_minutes(
    point: dict[str, Floats],
    drawn: dict[str, Floats],
    minutes: Interval,
    replicates: int,
    generator: np.random.Generator,
) -> None:
    """The same minutes in every cell: then only the share edited can save any."""
    values = minutes.estimate + minutes.standard_error * generator.standard_t(max(1, minutes.n - 1), replicates)
    point["edit_minutes"] = np.full_like(point["edit_minutes"], minutes.estimate)
    drawn["edit_minutes"] = np.repeat(np.maximum(values, 0)[:, None], len(point["edit_minutes"]), axis=1)
    for rates in (point, drawn):
        rates["rework_minutes"] = _product(rates["share_edited"], rates["edit_minutes"])


def _filled(drawn: Floats, point: Floats) -> Floats:
    """A draw without any ticket that knows a quantity (it was rare) takes its estimate."""
    filled: Floats = np.where(np.isnan(drawn), point, drawn)
    return filled


def _compare(values: Floats, study: Study) -> tuple[Floats, Floats]:
    """Without and with the new system, from [..., cell]."""
    if study.design != "did":
        return values[..., 0], values[..., 1]
    treated_before, treated_after, control_before, control_after = (values[..., i] for i in range(4))
    return treated_before + control_after - control_before, treated_after


def _widening(units: Sequence[int], replicates: int, generator: np.random.Generator) -> Floats:
    least = min(units)
    if least >= FEW_UNITS:
        return np.ones(replicates)
    chi2 = generator.chisquare(least - 1, replicates)
    widened: Floats = np.sqrt(least / (least - 1)) * np.sqrt((least - 1) / chi2)
    return widened
