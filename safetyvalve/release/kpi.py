"""Key figures for a manager's wall: what people say and do first, the reward score last and as not sufficient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from scipy.stats import beta

from safetyvalve import __version__
from safetyvalve.errors import DataError, UsageError
from safetyvalve.release.kpi_record import Kpi, KpiKey, Kpis
from safetyvalve.release.labour import Judging
from safetyvalve.release.quality import HumanWinRate
from safetyvalve.release.roi_record import Caution
from safetyvalve.release.roi_study import Unit
from safetyvalve.release.tickets import Ticket, Tickets
from safetyvalve.stats import Interval, clustered_mean

__all__ = ["RunScores", "compute_kpis"]

_BETTER = {
    "human_win_rate": "higher", "both_bad": "lower", "share_edited": "lower", "edit_minutes": "lower",
    "complaints": "lower", "satisfaction": "higher", "harm": "lower", "handle_minutes": "lower",
    "length_ratio": "near 1", "latency": "lower", "reward": "says nothing alone",
}  # fmt: skip
_OF_TICKETS: dict[KpiKey, Callable[[Ticket], float | None]] = {
    "share_edited": lambda t: None if t.edited is None else float(t.edited),
    "edit_minutes": lambda t: t.edit_min if t.edited else None,
    "complaints": lambda t: None if t.complaint is None else float(t.complaint),
    "satisfaction": lambda t: t.csat,
    "harm": lambda t: None if t.harm is None else float(t.harm),
    "handle_minutes": lambda t: t.handle_min,
}
_SHARES = ("share_edited", "complaints", "harm", "both_bad")
LEAST_PROMPTS = 30


class RunScores(Protocol):
    """What is used of a run; :class:`safetyvalve.report.RunRecord` has it."""

    @property
    def name(self) -> str: ...

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values of a metric of the evaluations."""
        ...


def compute_kpis(
    *,
    quality: HumanWinRate | None = None,
    tickets: Tickets | None = None,
    control: str | None = None,
    treatment: str | None = None,
    judging: Judging | None = None,
    run: RunScores | None = None,
    files: Sequence[str] = (),
    confidence: float = 0.95,
) -> Kpis:
    """The table, from whatever is there.

    Args:
        quality: people's win rate of the new system.
        tickets: of both systems, or of one.
        control, treatment: variants of the tickets; without ``treatment`` all tickets are one system's.
        judging: what the labelling app measured: corrections, where tickets know none.
        run: of the new system.
        files: names of what was read.
        confidence: of every interval.

    Raises:
        UsageError: nothing to read from, a variant without tickets to look in.
        DataError: a variant that never appears.
    """
    if quality is None and tickets is None and judging is None and run is None:
        raise UsageError(
            "there is nothing to read key figures from; accepted: verdicts, tickets, exports of the labelling app "
            "and a "
            "run. Name at least one; the first to have are verdicts of people."
        )
    if tickets is None and (control or treatment):
        raise UsageError(
            f"control is {control!r} and treatment {treatment!r}, and there are no tickets. Name their files."
        )
    known: dict[str, Kpi] = {}
    cautions: list[Caution] = []
    if run is not None:
        known |= _of_run(run)
    if judging is not None:
        known |= _of_app(judging)
    if tickets is not None:
        new, old = _variants(tickets, control, treatment, cautions)
        known |= _of_tickets(new, old, confidence)
    if quality is not None:
        known |= _of_people(quality, cautions)
    elif run is not None and "reward" in known:
        cautions.append(Caution(key="reward_without_people"))
    figures = [known.get(key) or _kpi(key, missing=f"get.{key}") for key in _BETTER]
    return Kpis(
        safetyvalve=__version__,
        candidate=quality.candidate if quality else treatment or (run.name if run else None),
        baseline=quality.baseline if quality else control,
        confidence=confidence,
        figures=figures,
        cautions=cautions,
        files=list(files),
    )


def _kpi(key: str, **fields: object) -> Kpi:
    return Kpi.model_validate({"key": key, "better": _BETTER[key], "sufficient": key != "reward"} | fields)


def _of_people(quality: HumanWinRate, cautions: list[Caution]) -> dict[str, Kpi]:
    rate, bad = quality.interval, quality.both_bad
    if quality.people_only.n < LEAST_PROMPTS:
        cautions.append(Caution(key="few_prompts", values={"prompts": str(quality.people_only.n)}))
    if rate.low <= 0.5 <= rate.high:
        cautions.append(Caution(key="no_difference"))
    if quality.judge is not None and not quality.random_sample:
        cautions.append(Caution(key="not_drawn", values={"judge": quality.judge}))
    if quality.none:
        of = str(quality.none + quality.verdicts)
        cautions.append(Caution(key="no_verdict", values={"none": str(quality.none), "of": of}))
    common = {"source": "verdicts", "unit": "prompts"}
    found = {
        "human_win_rate": _kpi("human_win_rate", **_ends(rate), n=quality.people_only.n, judge=quality.judge, **common),
        "both_bad": _kpi("both_bad", **_ends(bad), n=bad.n, **common),
    }
    if quality.length_ratio is not None:
        found["length_ratio"] = _kpi("length_ratio", value=quality.length_ratio, baseline=1.0, n=bad.n, **common)
    return found


def _variants(
    tickets: Tickets, control: str | None, treatment: str | None, cautions: list[Caution]
) -> tuple[list[Ticket], list[Ticket]]:
    there = sorted({t.variant for t in tickets.rows if t.variant is not None})
    for name in (control, treatment):
        if name is not None and name not in there:
            raise DataError(
                f"has no ticket of the variant '{name}'; there are {', '.join(there) or 'no variants'}. Name one of "
                "these.",
                file=", ".join(f.name for f in tickets.files),
                row=1,
                field=next((f.columns["variant"] for f in tickets.files if "variant" in f.columns), "variant"),
            )
    if treatment is None:
        if len(there) > 1:
            cautions.append(Caution(key="variants_mixed", values={"variants": ", ".join(there)}))
        return list(tickets.rows), []
    if control is None:
        cautions.append(Caution(key="no_control"))
    return [t for t in tickets.rows if t.variant == treatment], [
        t for t in tickets.rows if t.variant == control and control
    ]


def _of_tickets(new: Sequence[Ticket], old: Sequence[Ticket], confidence: float) -> dict[str, Kpi]:
    unit = _unit(new)
    found: dict[str, Kpi] = {}
    for key, value_of in _OF_TICKETS.items():
        known = [(v, t) for t in new if (v := value_of(t)) is not None]
        if not known:
            continue
        values = [v for v, _ in known]
        interval = clustered_mean(values, [_label(t, unit) for _, t in known], confidence=confidence)
        before = [v for t in old if (v := value_of(t)) is not None]
        found[key] = _kpi(
            key,
            **_ends(_within(interval, values, confidence) if key in _SHARES else interval),
            baseline=sum(before) / len(before) if before else None,
            n=interval.n,
            unit=f"{unit}s",
            source="tickets",
        )
    return found


def _within(interval: Interval, values: Sequence[float], confidence: float) -> Interval:
    """A share's interval within [0, 1]; of none and of all Clopper-Pearson over units, where a spread tells nothing."""
    if all(v == values[0] for v in values):
        tail = (1 - confidence) / 2
        reach = float(beta.ppf(1 - tail, 1, interval.n))
        return interval._replace(low=0.0, high=reach) if values[0] == 0 else interval._replace(low=1 - reach, high=1.0)
    return interval._replace(low=max(0.0, interval.low), high=min(1.0, interval.high))


def _unit(rows: Sequence[Ticket]) -> Unit:
    """The widest thing that all tickets have: tickets of one customer, or one agent, are alike."""
    if all(t.customer is not None for t in rows):
        return "customer"
    return "agent" if all(t.agent is not None for t in rows) else "ticket"


def _label(ticket: Ticket, unit: Unit) -> str:
    return ticket.ticket_id if unit == "ticket" else str(getattr(ticket, unit))


def _of_app(judging: Judging) -> dict[str, Kpi]:
    found = {}
    if judging.answers:
        share = judging.corrected / judging.answers
        found["share_edited"] = _kpi("share_edited", value=share, n=judging.answers, unit="answers", source="app")
    if judging.edit_minutes is not None:
        minutes = judging.edit_minutes
        found["edit_minutes"] = _kpi("edit_minutes", **_ends(minutes), n=minutes.n, unit="people", source="app")
    return found


def _of_run(run: RunScores) -> dict[str, Kpi]:
    found = {}
    for metric in ("samples/proxy_reward", "samples/implicit_reward_gain"):
        _, values = run.series(metric)
        if values:
            start = values[0] if len(values) > 1 else None
            found["reward"] = _kpi("reward", value=values[-1], baseline=start, source="run")
            break
    _, lengths = run.series("samples/length")
    if len(lengths) > 1 and lengths[0] > 0:
        found["length_ratio"] = _kpi("length_ratio", value=lengths[-1] / lengths[0], baseline=1.0, source="run")
    return found


def _ends(interval: Interval) -> dict[str, float | None]:
    if interval.n < 2:
        return {"value": interval.estimate, "low": None, "high": None}
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}
