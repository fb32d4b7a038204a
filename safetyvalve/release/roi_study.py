"""How tickets came to be under the old and the new system, and what of their numbers that lets one compare."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from safetyvalve.errors import DataError, UsageError
from safetyvalve.release.tickets import Ticket, Tickets

__all__ = ["DESIGNS", "UNITS", "Cells", "Design", "Study", "Unit", "divide"]

Design = Literal["randomised", "did", "before-after"]
"""``randomised``: a coin decided who got the new system. ``did``: difference in differences, two groups before and
after the launch in one of them. ``before-after``: one group, before and after. It is the grade of the evidence too."""
DESIGNS: tuple[Design, ...] = get_args(Design)
Unit = Literal["customer", "agent", "ticket"]
UNITS: tuple[Unit, ...] = get_args(Unit)


class Study(NamedTuple):
    """What is compared with what."""

    design: Design
    unit: Unit
    """What was assigned: customers, agents or single tickets. It is what is independent, and what is drawn again."""
    control: str | None = None
    treatment: str | None = None
    launch: datetime | None = None
    """When the new system began, for the designs that compare with the time before."""


class Cells(NamedTuple):
    """Tickets sorted into the cells of a study."""

    names: tuple[str, ...]
    tickets: tuple[tuple[Ticket, ...], ...]
    """By cell: control, treated; or treated before, treated after, control before, control after."""
    strata: tuple[tuple[int, ...], ...]
    """Cells whose units are drawn again together."""
    other_variants: int
    """Tickets of variants that are not compared."""


def divide(tickets: Tickets, study: Study) -> Cells:
    """Sort tickets into cells, and refuse what the design does not allow.

    Raises:
        UsageError: a study without what its design needs.
        DataError: a variant that never appears, a ticket without variant or unit, a unit under both variants, a cell
            without tickets, or variants that were never there at the same time.
    """
    _check_study(study)
    _check_units(tickets, study)
    if study.design == "before-after":
        return _before_after(tickets, study)
    control, treated, other = _by_variant(tickets, study)
    _check_crossed(control, treated, study)
    if study.design == "randomised":
        _check_together(control, treated, study)
        return Cells((str(study.control), str(study.treatment)), (control, treated), ((0,), (1,)), other)
    launch = study.launch
    assert launch is not None
    parts = [_split(group, launch) for group in (treated, control)]
    names = [f"{v}, {when}" for v in (study.treatment, study.control) for when in ("before", "after")]
    groups = [part for pair in parts for part in pair]
    for name, group in zip(names, groups, strict=True):
        if not group:
            raise _empty(tickets, name, launch)
    return Cells(tuple(names), tuple(groups), ((0, 1), (2, 3)), other)


def _check_study(study: Study) -> None:
    if study.design not in DESIGNS:
        raise UsageError(f"design is '{study.design}'; accepted: {', '.join(DESIGNS)}.")
    if study.unit not in UNITS:
        raise UsageError(f"unit is '{study.unit}'; accepted: {', '.join(UNITS)}.")
    if study.design != "before-after" and (not study.control or not study.treatment):
        raise UsageError(
            f"control is {study.control!r} and treatment {study.treatment!r}; the design {study.design} compares two "
            "variants. Name both as they stand in the column variant."
        )
    if study.design == "before-after" and study.control is not None:
        raise UsageError(
            f"control is {study.control!r} and the design before-after, which compares one group with its own past. "
            "Leave it "
            "out, or choose did."
        )
    if study.control == study.treatment and study.design != "before-after":
        raise UsageError(f"control and treatment are both {study.control!r}; two variants are compared.")
    if study.design != "randomised" and study.launch is None:
        raise UsageError(
            f"launch is not given; the design {study.design} compares with the time before it. Say --launch."
        )
    if study.design == "randomised" and study.launch is not None:
        raise UsageError(
            f"launch is {study.launch:%Y-%m-%d} and the design randomised, which compares variants at the same time "
            "and "
            "takes none. Leave it out, or choose did or before-after."
        )


def _check_units(tickets: Tickets, study: Study) -> None:
    if study.unit == "ticket":
        return
    for ticket in tickets.rows:
        if getattr(ticket, study.unit) is None:
            raise DataError(
                f"has no {study.unit}, and the unit of the study is the {study.unit}. Fill it in, or name the unit "
                "that "
                "was assigned with --unit.",
                file=ticket.file,
                row=ticket.row,
                field=study.unit,
            )


def _by_variant(tickets: Tickets, study: Study) -> tuple[tuple[Ticket, ...], tuple[Ticket, ...], int]:
    counted = Counter(t.variant for t in tickets.rows)
    for ticket in tickets.rows:
        if ticket.variant is None:
            raise DataError(
                f"has no variant ({counted[None]} of {len(tickets.rows)} tickets have none); each needs one under the "
                f"design {study.design}. Fill it in, or leave these tickets out of the export and say why.",
                file=ticket.file,
                row=ticket.row,
                field="variant",
            )
    for wanted in (study.control, study.treatment):
        if wanted not in counted:
            there = [v for v in counted if v is not None]
            near = difflib.get_close_matches(str(wanted), there, n=1)
            raise DataError(
                f"has no ticket of the variant '{wanted}'; there are "
                f"{', '.join(f'{v} ({counted[v]})' for v in sorted(there))}. "
                f"{f'Did you mean {near[0]!r}?' if near else 'Name one of these, or add its tickets.'}",
                file=", ".join(f.name for f in tickets.files),
                row=1,
                field=_header(tickets, "variant"),
            )
    control, treated = (tuple(t for t in tickets.rows if t.variant == v) for v in (study.control, study.treatment))
    return control, treated, len(tickets.rows) - len(control) - len(treated)


def _check_crossed(control: Sequence[Ticket], treated: Sequence[Ticket], study: Study) -> None:
    if study.unit == "ticket":
        return
    seen = {getattr(t, study.unit): t for t in reversed(control)}
    for ticket in treated:
        if first := seen.get(getattr(ticket, study.unit)):
            raise DataError(
                f"{study.unit} '{getattr(ticket, study.unit)}' is under '{study.treatment}' here and under "
                f"'{study.control}' in {first.file}:{first.row}: then the {study.unit} was not what was assigned. "
                "Correct "
                f"the variant, or name the unit that was with --unit (accepted: {', '.join(UNITS)}).",
                file=ticket.file,
                row=ticket.row,
                field=study.unit,
            )


def _check_together(control: Sequence[Ticket], treated: Sequence[Ticket], study: Study) -> None:
    """Tickets are in the order of time."""
    for early, late in ((control, treated), (treated, control)):
        if early[-1].created_at < late[0].created_at:
            raise DataError(
                f"is the first ticket of '{late[0].variant}', after the last of '{early[0].variant}' "
                f"({early[-1].created_at:%Y-%m-%d}): variants that were never there at the same time were not "
                "randomised. "
                "Choose --design before-after with --launch.",
                file=late[0].file,
                row=late[0].row,
                field="created_at",
            )


def _before_after(tickets: Tickets, study: Study) -> Cells:
    rows: tuple[Ticket, ...] = tickets.rows
    if study.treatment is not None:
        rows = tuple(t for t in rows if t.variant == study.treatment)
        if not rows:
            _by_variant(tickets, study._replace(control=study.treatment))
    assert study.launch is not None
    before, after = _split(rows, study.launch)
    for name, group in (("before", before), ("after", after)):
        if not group:
            raise _empty(tickets, name, study.launch)
    return Cells(("before", "after"), (before, after), ((0, 1),), len(tickets.rows) - len(rows))


def _split(rows: Sequence[Ticket], launch: datetime) -> tuple[tuple[Ticket, ...], tuple[Ticket, ...]]:
    before = tuple(t for t in rows if t.created_at.replace(tzinfo=None) < launch)
    return before, tuple(rows[len(before) :])


def _empty(tickets: Tickets, name: str, launch: datetime) -> DataError:
    first, last = tickets.rows[0], tickets.rows[-1]
    return DataError(
        f"has no ticket of '{name}' the launch at {launch:%Y-%m-%d}: tickets are from {first.created_at:%Y-%m-%d} to "
        f"{last.created_at:%Y-%m-%d}. Correct --launch, or add the missing months.",
        file=last.file,
        row=last.row,
        field=_header(tickets, "created_at"),
    )


def _header(tickets: Tickets, name: str) -> str:
    return next((f.columns[name] for f in tickets.files if name in f.columns), name)
