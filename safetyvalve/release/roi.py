"""Return on investment of a new system, from tickets, verdicts of people, timers and prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve import __version__
from safetyvalve.errors import UsageError
from safetyvalve.release.labour import Judging
from safetyvalve.release.quality import HumanWinRate
from safetyvalve.release.roi_assumptions import Assumptions, Triangle
from safetyvalve.release.roi_cautions import find_cautions, placebo
from safetyvalve.release.roi_effects import Change, Changes, measure_changes
from safetyvalve.release.roi_record import (
    Amount,
    Effect,
    Estimate,
    Evidence,
    Labour,
    Net,
    Quality,
    Range,
    Roi,
    Scenario,
    StudyRecord,
    TicketSource,
)
from safetyvalve.release.roi_sensitivity import flips, payback, tornado
from safetyvalve.release.roi_study import Cells, Study, divide
from safetyvalve.release.roi_value import COSTS, LONG, SHORT, amounts, cumulative, monthly_flows, net_after
from safetyvalve.release.tickets import Tickets
from safetyvalve.stats.clusters import checked_confidence

__all__ = ["compute_roi"]

Floats = NDArray[np.float64]

SHOWN = (0.5, 1.0)
"""Shares of freed time that are redeployed, where none is given: there is no default with evidence. Its range too."""

_MEASURED = {
    "saved_rework_minutes": ("rework_minutes", -1.0),
    "saved_handle_minutes": ("handle_minutes", -1.0),
    "avoided_complaints": ("complaints", -1.0),
    "avoided_harm": ("harm", -1.0),
    "gained_satisfaction": ("satisfaction", 1.0),
}
"""Input of the formulas -> the quantity of tickets it is, and the sign with which more of it is gained."""


class _Inputs(NamedTuple):
    mean: dict[str, Floats]
    draws: dict[str, Floats]
    ranges: dict[str, tuple[float, float]]


def compute_roi(
    tickets: Tickets,
    study: Study,
    assumptions: Assumptions,
    *,
    judging: Judging | None = None,
    quality: HumanWinRate | None = None,
    replicates: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Roi:
    """The whole computation; equal for equal arguments.

    Args:
        tickets: from :func:`safetyvalve.release.tickets.read_tickets`.
        study: what is compared.
        assumptions: from :func:`safetyvalve.release.roi_assumptions.read_assumptions`.
        judging: people's hours by the labelling app's timers; else ``evaluation_hours`` of the assumptions.
        quality: people's win rate of the new system against the old.
        replicates: joint draws of tickets and assumptions.
        seed: of the draws.
        confidence: of every interval.

    Raises:
        DataError: tickets that the study does not allow.
        UsageError: no word on the hours that people judged, or two: timers and a number; harm measured and assumed.
    """
    checked_confidence(confidence)
    _check_hours(judging, assumptions)
    generator = np.random.default_rng(seed)
    cells = divide(tickets, study)
    if "harm_rate" in assumptions.numbers and any(t.harm is not None for t in tickets.rows):
        raise UsageError(
            "harm_rate is given and the tickets have a column harm; one of the two is accepted. Take harm_rate out "
            "of the "
            "assumptions (or the column out of the file)."
        )
    edit_minutes = judging.edit_minutes if judging else None
    changes = measure_changes(
        cells,
        study,
        handle_includes_edit=assumptions.handle_includes_edit,
        edit_minutes=edit_minutes,
        replicates=replicates,
        generator=generator,
        confidence=confidence,
    )
    inputs = _inputs(changes, assumptions, judging, quality, replicates, generator, confidence)
    given = "redeployed" in assumptions.numbers
    shares = [assumptions.numbers["redeployed"]] if given else [Triangle(s, s, s) for s in SHOWN]
    skipped = _not_counted(changes, assumptions, quality)
    scenarios = [_scenario(s, given, inputs, assumptions, study, skipped, generator, confidence) for s in shares]
    checks = placebo(tickets, study, assumptions.handle_includes_edit, replicates, seed, confidence)
    return Roi(
        safetyvalve=__version__,
        currency=assumptions.currency,
        horizon_months=assumptions.horizon_months,
        yearly_discount=assumptions.yearly_discount,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        study=_study(tickets, study, cells, changes),
        sources=[_source(tickets, i) for i in range(len(tickets.files))],
        assumptions={name: _range(value) for name, value in assumptions.numbers.items()},
        monthly_volumes=None if assumptions.volumes is None else list(assumptions.volumes),
        handle_includes_edit=assumptions.handle_includes_edit,
        effects=[_effect(c, cells.names) for c in changes.found.values()],
        placebo=[_effect(c, names) for c, names in checks],
        quality=None if quality is None else _quality(quality),
        labour=None if judging is None else _labour(judging),
        scenarios=scenarios,
        not_counted=skipped,
        cautions=find_cautions(tickets, study, cells, changes, assumptions, judging, quality, checks),
    )


def _check_hours(judging: Judging | None, assumptions: Assumptions) -> None:
    said = "evaluation_hours" in assumptions.numbers
    if judging is None and not said:
        raise UsageError(
            "nothing says how long people judged, and a return without their work is gross. Name exports of the "
            "labelling "
            "app with --evaluation, or say evaluation_hours (0 if nobody did)."
        )
    if judging is not None and said:
        raise UsageError(
            f"evaluation_hours is {assumptions.numbers['evaluation_hours'].mode:g} and --evaluation has timers of "
            f"{judging.hours:.1f} hours; one of the two is accepted. Leave one out."
        )


def _inputs(
    changes: Changes,
    assumptions: Assumptions,
    judging: Judging | None,
    quality: HumanWinRate | None,
    replicates: int,
    generator: np.random.Generator,
    confidence: float,
) -> _Inputs:
    """Everything that enters the formulas: its mean, draws of it, and the ends of what is not sure."""
    mean: dict[str, Floats] = {}
    draws: dict[str, Floats] = {}
    ranges: dict[str, tuple[float, float]] = {}
    tail = 100 * (1 - confidence) / 2
    for name, value in assumptions.numbers.items():
        if name == "harm_rate":
            mean["avoided_harm"], draws["avoided_harm"] = np.array(-value.mean), -value.draw(replicates, generator)
            ranges["avoided_harm"] = (-value.high, -value.low)
        elif name != "redeployed":
            mean[name], draws[name] = np.array(value.mean), value.draw(replicates, generator)
            ranges[name] = (value.low, value.high)
    if judging is not None:
        mean["evaluation_hours"], draws["evaluation_hours"] = (
            np.array(judging.hours),
            np.full(replicates, judging.hours),
        )
    for name, (key, sign) in _MEASURED.items():
        if key in changes.found:
            mean[name] = np.array(sign * changes.found[key].difference.estimate)
            draws[name] = sign * changes.draws[key]
            ranges[name] = _ends(np.percentile(draws[name], [tail, 100 - tail]))
    if quality is not None:
        rate = quality.interval
        mean["gained_win_rate"] = np.array(100 * (rate.estimate - 0.5))
        t = generator.standard_t(max(1, rate.n - 1), replicates)
        draws["gained_win_rate"] = 100 * (np.clip(rate.estimate + rate.standard_error * t, 0, 1) - 0.5)
        ranges["gained_win_rate"] = (100 * (rate.low - 0.5), 100 * (rate.high - 0.5))
    return _Inputs(mean, draws, ranges)


def _scenario(
    share: Triangle,
    given: bool,
    inputs: _Inputs,
    assumptions: Assumptions,
    study: Study,
    skipped: Mapping[str, str],
    generator: np.random.Generator,
    confidence: float,
) -> Scenario:
    replicates = len(inputs.draws["wage"])
    mean = {**inputs.mean, "redeployed": np.array(share.mean)}
    draws = {**inputs.draws, "redeployed": share.draw(replicates, generator)}
    ranges = {**inputs.ranges, "redeployed": (share.low, share.high) if given else SHOWN}
    found = [
        Amount(
            key=name,
            term="short" if name in SHORT else "long" if name in LONG else "cost",
            total=total,
            evidence=_evidence(name, study, assumptions, "evaluation_hours" not in assumptions.numbers),
        )
        for name, total in _totals(mean, draws, assumptions, confidence).items()
        if name not in skipped
    ]
    nets = [_net("short", SHORT + COSTS, mean, draws, ranges, assumptions, confidence)]
    if any(a.term == "long" for a in found):
        nets.append(_net("both", SHORT + LONG + COSTS, mean, draws, ranges, assumptions, confidence))
    return Scenario(redeployed=_range(share), given=given, amounts=found, nets=nets)


def _totals(
    mean: Mapping[str, Floats], draws: Mapping[str, Floats], assumptions: Assumptions, confidence: float
) -> dict[str, Estimate]:
    at_mean = amounts(monthly_flows(mean), assumptions.profile, assumptions.yearly_discount)
    drawn = amounts(monthly_flows(draws), assumptions.profile, assumptions.yearly_discount)
    return {name: _estimate(float(at_mean[name]), drawn[name], confidence) for name in (*SHORT, *LONG, *COSTS)}


def _net(
    key: str,
    names: tuple[str, ...],
    mean: Mapping[str, Floats],
    draws: Mapping[str, Floats],
    ranges: Mapping[str, tuple[float, float]],
    assumptions: Assumptions,
    confidence: float,
) -> Net:
    profile, discount = assumptions.profile, assumptions.yearly_discount

    def net(inputs: Mapping[str, Floats]) -> Floats:
        return net_after(monthly_flows(inputs), profile, discount, names)

    def paid(inputs: Mapping[str, Floats]) -> Floats:
        return -net_after(monthly_flows(inputs), profile, discount, tuple(n for n in COSTS if n != "harm"))

    drawn, cost = np.asarray(net(draws)), float(paid(mean))
    return Net(
        key=key,  # type: ignore[arg-type]
        total=_estimate(float(net(mean)), drawn, confidence),
        p_positive=float(np.mean(drawn > 0)),
        return_on_cost=_estimate(float(net(mean)) / cost, drawn / paid(draws), confidence) if cost > 0 else None,
        payback=payback(cumulative(monthly_flows(draws), profile, discount, names)),
        tornado=tornado(net, mean, ranges),
        flips=flips(net, mean, ranges),
    )


def _evidence(name: str, study: Study, assumptions: Assumptions, timed: bool) -> Evidence:
    if name == "quality":
        return "human verdicts"
    if name == "harm" and "harm_rate" in assumptions.numbers:
        return "assumed"
    if name == "evaluation_so_far" and timed:
        return "timed"
    if name in ("evaluation_so_far", "evaluation_monthly"):
        return "assumed"
    return "given" if name in COSTS and name != "harm" else study.design


def _not_counted(changes: Changes, assumptions: Assumptions, quality: HumanWinRate | None) -> dict[str, str]:
    """Amounts that are in no net, and the reason as a message of roi_text."""
    found: dict[str, str] = {}
    numbers = assumptions.numbers
    for name, (key, price) in {
        "rework": ("rework_minutes", "wage"),
        "handling": ("handle_minutes", "wage"),
        "complaints": ("complaints", "complaint_cost"),
        "satisfaction": ("satisfaction", "satisfaction_point_value"),
        "harm": ("harm", "harm_cost"),
    }.items():
        if key not in changes.found and not (name == "harm" and "harm_rate" in numbers):
            found[name] = "not_measured"
        elif price not in numbers:
            found[name] = "no_price"
    if quality is None:
        found["quality"] = "no_verdicts"
    elif "win_rate_point_value" not in numbers:
        found["quality"] = "no_price"
    if "evaluation_hours_monthly" not in numbers:
        found["evaluation_monthly"] = "not_given"
    return found


def _estimate(value: float, drawn: Floats, confidence: float) -> Estimate:
    tail = 100 * (1 - confidence) / 2
    low, high = _ends(np.percentile(drawn, [tail, 100 - tail]))
    return Estimate(estimate=value, low=low, high=high)


def _ends(values: Sequence[float] | Floats) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _range(value: Triangle) -> Range:
    return Range(low=value.low, mode=value.mode, high=value.high)


def _effect(change: Change, names: Sequence[str]) -> Effect:
    d = change.difference
    return Effect(
        key=change.key,
        control=change.control,
        treated=change.treated,
        difference=Estimate(estimate=d.estimate, low=d.low, high=d.high),
        known=dict(zip(names, change.known, strict=True)),
    )


def _study(tickets: Tickets, study: Study, cells: Cells, changes: Changes) -> StudyRecord:
    return StudyRecord(
        design=study.design,
        unit=study.unit,
        control=study.control,
        treatment=study.treatment,
        launch=None if study.launch is None else study.launch.date().isoformat(),
        tickets={name: len(rows) for name, rows in zip(cells.names, cells.tickets, strict=True)},
        units=list(changes.units),
        few_units=changes.few,
        other_variants=cells.other_variants,
        outside=tickets.outside,
        first=tickets.rows[0].created_at.date().isoformat(),
        last=tickets.rows[-1].created_at.date().isoformat(),
        months=len(tickets.months),
    )


def _source(tickets: Tickets, index: int) -> TicketSource:
    file = tickets.files[index]
    return TicketSource(
        name=file.name,
        kind=file.kind,
        encoding=file.encoding,
        sha256=file.sha256,
        tickets=file.tickets,
        columns=file.columns,
        ignored=list(file.ignored),
    )


def _quality(found: HumanWinRate) -> Quality:
    rate = found.interval
    return Quality(
        candidate=found.candidate,
        baseline=found.baseline,
        win_rate=Estimate(estimate=rate.estimate, low=rate.low, high=rate.high),
        points=Estimate(**{k: 100 * (getattr(rate, k) - 0.5) for k in ("estimate", "low", "high")}),
        method="people" if found.judge is None else "people and judge",
        judge=found.judge,
        prompts=rate.n,
        people=found.people,
        verdicts=found.verdicts,
    )


def _labour(judging: Judging) -> Labour:
    return Labour(
        hours=judging.hours,
        people=judging.people,
        votes=judging.votes,
        corrections=judging.corrections,
        untimed=judging.untimed,
    )
