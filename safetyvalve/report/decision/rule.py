"""The rule by which a decision is proposed. Every ground is needed; the reward and a judge's verdicts are none.

1. Roll back, if the release's record says so: harm is shown, or a person took the traffic away.
2. Hold, if anything speaks against: the record does not verify, a gate failed, the valve tripped, the candidate's run
   overoptimized or got worse, or people prefer the old model.
3. Hold for lack of evidence, if anything that is needed is missing or open: the release's gates, evidence on
   overoptimization, verdicts of people.
4. Release otherwise; a person's approval carries it out.

The return is shown and decides nothing: money does not make up for what people or gates say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from safetyvalve.release.kpi_record import Kpi
from safetyvalve.report.decision.sources import Material
from safetyvalve.report.evidence import Evidence
from safetyvalve.report.record import RunRecord, number

__all__ = ["Decision", "Ground", "Proposal", "propose"]

Proposal = Literal["release", "hold_evidence", "hold_against", "rollback"]
State = Literal["met", "against", "open", "missing", "rollback"]


class Ground(NamedTuple):
    """One of the things that a release needs."""

    key: Literal["gates", "overoptimization", "people"]
    state: State
    code: str
    """Of the words that say what was found, with ``values``."""
    values: Mapping[str, Any] = {}


class Decision(NamedTuple):
    """What is proposed, and why."""

    proposal: Proposal
    grounds: tuple[Ground, ...]

    def ground(self, key: str) -> Ground:
        return next(g for g in self.grounds if g.key == key)


def propose(material: Material, evidence: Sequence[Evidence]) -> Decision:
    """Apply the rule.

    Args:
        material: what there is.
        evidence: one a run, as :func:`safetyvalve.report.evidence.evidence_of` gives it; the first is the candidate's.
    """
    grounds = (_gates(material), _overoptimization(material, evidence[0]), _people(material))
    states = {g.state for g in grounds}
    if "rollback" in states:
        return Decision("rollback", grounds)
    if "against" in states:
        return Decision("hold_against", grounds)
    return Decision("hold_evidence" if states & {"open", "missing"} else "release", grounds)


def _gates(material: Material) -> Ground:
    if material.damage is not None:
        return Ground("gates", "against", "damaged")
    record = material.release
    if record is None:
        return Ground("gates", "missing", "no_release")
    states: dict[str, State] = {
        "rollback": "rollback", "rolled_back": "rollback", "hold": "against", "pause": "open",
        "await_approval": "met", "promote": "met", "complete": "met",
    }  # fmt: skip
    passed = sum(g.state == "pass" for g in record.gates)
    counts = {"passed": passed, "of": len(record.gates), "stage": record.stage}
    code = "gates_past" if record.outcome == "complete" and not record.gates else f"gates_{record.outcome}"
    return Ground("gates", states[record.outcome], code, counts)


def _overoptimization(material: Material, evidence: Evidence) -> Ground:
    record = material.runs[0]
    if evidence.status in ("overoptimized", "worse"):
        step = _selected_step(record)
        if evidence.status == "overoptimized" and step is not None and step < record.last_step:
            return Ground("overoptimization", "met", "over_selected", {"step": step})
        return Ground("overoptimization", "against", evidence.status)
    if evidence.status in ("improved", "no_change"):
        return Ground("overoptimization", "met", evidence.status)
    if material.release is not None and material.release.valve.reason == "both_rise":
        return Ground("overoptimization", "met", "valve")
    return Ground("overoptimization", "missing", evidence.status)


def _selected_step(record: RunRecord) -> int | None:
    """Step whose weights became the model, where the independent score chose it."""
    step = number((record.selection or {}).get("step"))
    return None if step is None else int(step)


def _people(material: Material) -> Ground:
    if material.kpis is None:
        return Ground("people", "missing", "no_kpis")
    rate: Kpi | None = next((f for f in material.kpis.figures if f.key == "human_win_rate"), None)
    if rate is None or rate.value is None or not rate.n or rate.source != "verdicts":
        return Ground("people", "missing", "no_people")
    values = {"rate": rate.value, "low": rate.low, "high": rate.high, "n": rate.n, "judge": rate.judge}
    if rate.low is None or rate.high is None:
        return Ground("people", "missing", "no_interval", values)
    if rate.high < 0.5:
        return Ground("people", "against", "people_against", values)
    if rate.low > 0.5:
        return Ground("people", "met", "people_for", values)
    return Ground("people", "met" if _gate_of_people_passes(material) else "open", "people_level", values)


def _gate_of_people_passes(material: Material) -> bool:
    """Whether a guardrail that only people's verdicts can pass says that no more than its margin is lost."""
    record = material.release
    if record is None:
        return False
    by_people = {g.metric for g in record.settings.guardrails if g.evidence == "people"}
    return any(g.state == "pass" and g.metric in by_people for g in record.gates)
