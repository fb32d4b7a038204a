"""From gates, valve and approvals to one decision, which is carried out and logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetyvalve.errors import ReleaseError, UsageError
from safetyvalve.release.staged.approvals import DAY_MS, Approval, add_approval, approvals, refuse_trainer
from safetyvalve.release.staged.folder import Release, milliseconds
from safetyvalve.release.staged.gates import Gate, evaluate_gates
from safetyvalve.release.staged.valve import ValveReading, valve_of

__all__ = ["EXIT_CODES", "Assessment", "Outcome", "approve", "assess", "decide", "roll_back", "stop_on_harm"]

Outcome = Literal["promote", "complete", "await_approval", "pause", "hold", "rollback", "rolled_back"]

EXIT_CODES: dict[str, int] = {
    "promote": 0,
    "complete": 0,
    "await_approval": 10,
    "pause": 11,
    "hold": 12,
    "rollback": 13,
    "rolled_back": 13,
    "damaged": 14,
}
"""For a script that deploys; 2 is a mistake of the caller."""


@dataclass(frozen=True)
class Assessment:
    """What the evidence allows now."""

    outcome: Outcome
    reasons: tuple[tuple[str, Mapping[str, Any]], ...]
    """Codes with what they speak of; :mod:`safetyvalve.release.staged.text` puts them into words."""
    gates: tuple[Gate, ...]
    valve: ValveReading
    approvals: tuple[Approval, ...]
    days: float
    """From the stage's first observation to its last."""
    promoted_to: str | None = None
    """The stage that :func:`decide` went on to."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


def assess(release: Release, *, now: int | None = None) -> Assessment:
    """What would be decided now; changes nothing."""
    now = milliseconds() if now is None else now
    rows = [o for o in release.observations if o.stage == release.stage.name]
    gates = tuple(evaluate_gates(release.settings, release.stage, rows))
    valve = valve_of(release.settings, release.stage, rows)
    days = (max(o.at for o in rows) - min(o.at for o in rows)) / DAY_MS if rows else 0.0
    given = tuple(approvals(release, now=now))
    outcome, reasons = _outcome(release, gates, valve, given, days)
    return Assessment(outcome, tuple(reasons), gates, valve, given, days)


def _outcome(
    release: Release, gates: tuple[Gate, ...], valve: ValveReading, given: tuple[Approval, ...], days: float
) -> tuple[Outcome, list[tuple[str, Mapping[str, Any]]]]:
    if release.position.rolled_back:
        last = release.of_kind("rollback")[-1]
        return "rolled_back", [("rolled_back", {"reason": last.payload["reason"], "by": last.by})]
    if harmful := [g.metric for g in gates if g.rollback]:
        return "rollback", [("harm", {"metric": m}) for m in harmful]
    reasons: list[tuple[str, Mapping[str, Any]]] = [
        ("failed", {"metric": g.metric}) for g in gates if g.state == "fail"
    ]
    if valve.state == "tripped":
        reasons.append(("tripped", {}))
    if reasons:
        return "hold", reasons
    if release.position.number + 1 == len(release.settings.stages):
        return "complete", [("last_stage", {"stage": release.stage.name})]
    reasons = [("inconclusive", {"metric": g.metric}) for g in gates if g.state == "inconclusive"]
    if valve.state == "inconclusive":
        reasons.append(("valve_open", {}))
    if valve.state == "no_reward" and release.settings.valve.required:
        reasons.append(("no_reward", {"metric": release.settings.valve.reward}))
    if days < release.stage.min_days:
        reasons.append(("too_short", {"days": days, "least": release.stage.min_days}))
    if reasons:
        return "pause", reasons
    to = release.settings.stages[release.position.number + 1].name
    if not any(a.problem is None for a in given):
        return "await_approval", [("await_approval", {"to": to})]
    return "promote", [("promote", {"to": to})]


def decide(release: Release) -> Assessment:
    """Assess, and carry it out: roll back, or go on to the next stage; everything is logged.

    The same decision on the same evidence is logged once.
    """
    found = assess(release)
    payload = {
        "outcome": found.outcome,
        "stage": release.stage.name,
        "evidence_hash": release.evidence_hash(),
        "reasons": [[code, dict(values)] for code, values in found.reasons if code != "too_short"],
        "gates": {g.metric: g.state for g in found.gates},
        "valve": found.valve.state,
    }
    before = release.of_kind("decision")
    if not before or before[-1].payload != payload:
        release.append("decision", payload)
    if found.outcome == "rollback":
        _stop(release, found)
    elif found.outcome == "promote":
        to = release.settings.stages[release.position.number + 1].name
        approval = next(a for a in reversed(found.approvals) if a.problem is None)
        release.append(
            "promotion",
            {"from": release.stage.name, "to": to, "approval": approval.seq, "evidence_hash": approval.evidence_hash},
        )
        return replace(found, promoted_to=to)
    return found


def approve(
    release: Release,
    approver: str,
    reason: str,
    *,
    days: float | None = None,
    seen: str | None = None,
    key: Path | None = None,
) -> Approval:
    """:func:`~safetyvalve.release.staged.approvals.add_approval`, where the evidence lets the stage be left.

    Raises:
        ReleaseError: it does not: the approval would count for nothing, since more evidence voids it.
    """
    refuse_trainer(release, approver)
    outcome = assess(release).outcome
    if outcome not in ("await_approval", "promote"):
        raise ReleaseError(
            f"the evidence does not let the stage '{release.stage.name}' be left (decision: {outcome}), and an "
            f"approval "
            "is void once there is more evidence. Approve when `safetyvalve release status` says that only this is "
            "missing."
        )
    return add_approval(release, approver, reason, days=days, seen=seen, key=key)


def stop_on_harm(release: Release) -> Assessment:
    """Roll back if the observations show harm; promote nothing."""
    found = assess(release)
    if found.outcome == "rollback":
        _stop(release, found)
    return found


def _stop(release: Release, found: Assessment) -> None:
    harmful = [g for g in found.gates if g.rollback]
    release.append(
        "rollback",
        {
            "automatic": True,
            "reason": "shown by the observations: " + ", ".join(g.metric for g in harmful),
            "stage": release.stage.name,
            "log_e": {g.metric: g.log_e_rollback for g in harmful},
            "evidence_hash": release.evidence_hash(),
        },
    )


def roll_back(release: Release, reason: str) -> None:
    """Take all traffic away because a person says so.

    Raises:
        ReleaseError: it was rolled back before.
        UsageError: no reason.
    """
    if release.position.rolled_back:
        raise ReleaseError(f"the release '{release.settings.name}' was rolled back before. Nothing was changed.")
    if not reason.strip():
        raise UsageError("the reason is empty; say in a few words what was seen. Nothing was changed.")
    release.append(
        "rollback",
        {
            "automatic": False,
            "reason": reason.strip(),
            "stage": release.stage.name,
            "log_e": {},
            "evidence_hash": release.evidence_hash(),
        },
    )
