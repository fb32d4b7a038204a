"""Each guardrail's gate: pass, fail or inconclusive, by statistics that may be looked at at any time.

A gate passes when "the candidate loses the margin or more" is refuted, fails when "it loses the margin or less" is, and
is inconclusive otherwise. Every guardrail has its own, so that no gain makes up for a loss. A candidate that loses its
margin on one guardrail is promoted with chance at most ``error_rates.promote``: all gates must pass, and that one
passes, ever, with no more than that chance (intersection-union test: Berger 1982,
https://doi.org/10.1080/00401706.1982.10487790).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safetyvalve.release.staged.change import Change, Helped, arms, one_mean, pairs
from safetyvalve.release.staged.observations import Observation
from safetyvalve.release.staged.settings import Guardrail, Settings, Stage
from safetyvalve.stats.clusters import Floats

__all__ = ["FEWEST", "Gate", "State", "evaluate_gates", "loss_at_least", "loss_at_most"]

State = Literal["pass", "fail", "inconclusive"]
Design = Literal["pairs", "arms", "level", "judge-helped"]
Reason = Literal["loss_excluded", "loss_shown", "not_shown", "no_data", "no_people", "no_control", "too_few"]

FEWEST = 100
"""Values that each arm of a continuous metric needs: its statements hold for many values only."""


@dataclass(frozen=True)
class Gate:
    """What one guardrail says in one stage. Numbers are in the metric's unit; None where there is too little data."""

    metric: str
    state: State
    reason: Reason
    design: Design
    better: Literal["higher", "lower"]
    margin: float
    level: float | None
    estimate: float | None
    """Candidate minus control, or minus the level."""
    low: float | None
    high: float | None
    """Each bound holds at all times at once with chance 1 - ``error_rates.promote``."""
    candidate: int
    """Units counted; of pairs, the pairs."""
    control: int
    incomplete: int
    """Units of pairs with one variant only, left out."""
    capped: int
    """Values above the range, counted as its upper end."""
    judged: int
    """Units with a judge's verdict only; they help at most, and never pass a gate."""
    exact: bool
    """False for continuous metrics, whose statements hold for many values."""
    log_e_pass: float | None
    log_e_fail: float | None
    log_e_rollback: float | None
    """None also where no loss rolls back by itself."""
    rollback: bool
    """The loss at which all traffic is taken away is shown."""


@dataclass(frozen=True)
class _Data:
    change: Change | None
    design: Design
    reason: Reason
    estimate: float | None
    candidate: int
    control: int
    incomplete: int = 0
    capped: int = 0
    judged: int = 0


def loss_at_most(guardrail: Guardrail, change: Change, loss: float) -> Floats:
    """log e against "the candidate loses at most this", [T]: grows as a larger loss is shown."""
    return change.at_most(loss) if guardrail.better == "lower" else change.at_least(-loss)


def loss_at_least(guardrail: Guardrail, change: Change, loss: float) -> Floats:
    """log e against "the candidate loses at least this", [T]: grows as a smaller loss, or a gain, is shown."""
    return change.at_least(loss) if guardrail.better == "lower" else change.at_most(-loss)


def evaluate_gates(settings: Settings, stage: Stage, observations: Iterable[Observation]) -> list[Gate]:
    """The gates of a stage, in the settings' order, on the observations of that stage."""
    rows: dict[str, list[Observation]] = {}
    for o in observations:
        if o.stage == stage.name:
            rows.setdefault(o.metric, []).append(o)
    return [_gate(settings, stage, g, rows.get(g.metric, [])) for g in settings.guardrails if g.gates(stage)]


def _gate(settings: Settings, stage: Stage, guardrail: Guardrail, rows: Sequence[Observation]) -> Gate:
    data = _data(guardrail, stage, rows)
    rates = settings.error_rates
    log_pass = log_fail = log_rollback = low = high = None
    state: State = "inconclusive"
    reason, rollback = data.reason, False
    if data.change is not None:
        log_pass = float(loss_at_least(guardrail, data.change, guardrail.margin)[0])
        log_fail = float(loss_at_most(guardrail, data.change, guardrail.margin)[0])
        stop = -math.log(settings.stop_level())
        if guardrail.rollback_at is not None:
            log_rollback = float(loss_at_most(guardrail, data.change, guardrail.rollback_at)[0])
            rollback = log_rollback >= stop
        low, high = data.change.bounds(rates.promote)
        if log_fail >= stop or rollback:
            state, reason = "fail", "loss_shown"
        elif log_pass >= -math.log(rates.promote):
            state, reason = "pass", "loss_excluded"
    return Gate(
        metric=guardrail.metric,
        state=state,
        reason=reason,
        design=data.design,
        better=guardrail.better,
        margin=guardrail.margin,
        level=guardrail.level,
        estimate=data.estimate,
        low=low,
        high=high,
        candidate=data.candidate,
        control=data.control,
        incomplete=data.incomplete,
        capped=data.capped,
        judged=data.judged,
        exact=guardrail.kind != "continuous",
        log_e_pass=log_pass,
        log_e_fail=log_fail,
        log_e_rollback=log_rollback,
        rollback=rollback,
    )


def _data(guardrail: Guardrail, stage: Stage, rows: Sequence[Observation]) -> _Data:
    counted = [r for r in rows if guardrail.evidence == "records" or r.source == "people"]
    limits = guardrail.limits if math.isfinite(guardrail.limits[0]) else None
    capped = sum(r.value > guardrail.limits[1] for r in counted)
    values: dict[str, dict[str, float]] = {"candidate": {}, "control": {}}
    for r in counted:
        values[r.variant][r.unit] = r.value
    candidate, control = values["candidate"], values["control"]
    if guardrail.compare == "level":
        return _level(guardrail, rows, candidate, limits, capped)
    least = FEWEST if limits is None else 1
    if stage.share == 0:
        both = [u for u in candidate if u in control]
        x, y = (np.array([side[u] for u in both]) for side in (candidate, control))
        incomplete = len(candidate.keys() ^ control.keys())
        if len(both) < least:
            return _Data(None, "pairs", _lack(rows, candidate, control), None, len(both), len(both), incomplete, capped)
        return _Data(
            pairs(x, y, limits), "pairs", "not_shown", _mean(x, limits) - _mean(y, limits), len(both), len(both),
            incomplete, capped,
        )  # fmt: skip
    x, y = (np.array(list(side.values())) for side in (candidate, control))
    if min(x.size, y.size) < least:
        return _Data(None, "arms", _lack(rows, candidate, control), None, x.size, y.size, 0, capped)
    return _Data(
        arms(x, y, limits), "arms", "not_shown", _mean(x, limits) - _mean(y, limits), x.size, y.size, 0, capped
    )


def _level(
    guardrail: Guardrail,
    rows: Sequence[Observation],
    candidate: dict[str, float],
    limits: tuple[float, float] | None,
    capped: int,
) -> _Data:
    assert guardrail.level is not None
    said = _judged(rows)
    judged = len(said.keys() - candidate.keys())
    x = np.array(list(candidate.values()))
    if x.size < (FEWEST if limits is None else 1):
        reason: Reason = "too_few" if x.size else "no_people" if rows else "no_data"
        return _Data(None, "level", reason, None, x.size, 0, 0, capped, judged)
    estimate = _mean(x, limits) - guardrail.level
    same = [u for u in candidate if u in said]
    other = [value for unit, value in said.items() if unit not in candidate]
    if guardrail.judge_weight and other and len(same) == len(candidate):
        helped = Helped(x, np.array([said[u] for u in same]), np.array(other), guardrail.level, guardrail.judge_weight)
        t = guardrail.judge_weight
        estimate = float(x.mean() - t * helped.judge_same.mean() + t * helped.judge_other.mean()) - guardrail.level
        return _Data(helped, "judge-helped", "not_shown", estimate, x.size, 0, 0, capped, judged)
    return _Data(one_mean(x, limits, guardrail.level), "level", "not_shown", estimate, x.size, 0, 0, capped, judged)


def _judged(rows: Sequence[Observation]) -> dict[str, float]:
    return {r.unit: r.value for r in rows if r.source == "judge"}


def _lack(rows: Sequence[Observation], candidate: dict[str, float], control: dict[str, float]) -> Reason:
    if not rows:
        return "no_data"
    if not candidate and not control:
        return "no_people"
    return "no_control" if not candidate or not control else "too_few"


def _mean(values: Floats, limits: tuple[float, float] | None) -> float:
    return float((values if limits is None else np.clip(values, *limits)).mean())
