"""Risks that stay, and what to do next with the command for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from safetyvalve.release.money import money
from safetyvalve.release.roi_text import MESSAGES as ROI_WORDS
from safetyvalve.release.sheet import Words
from safetyvalve.release.staged.gates import Gate
from safetyvalve.release.staged.text import Words as ReleaseWords
from safetyvalve.report.decision.headline import net_of, percent, win_rate
from safetyvalve.report.decision.rule import Decision
from safetyvalve.report.decision.sources import Material
from safetyvalve.report.text import Text

__all__ = ["COMMANDS", "Step", "next_steps", "risks"]

COMMANDS = {
    "release": "safetyvalve release init FOLDER --run RUN --control OLD",
    "score": "safetyvalve train ... --scorer MODULE:FUNCTION",
    "kpi": "safetyvalve kpi --verdicts FILE --candidate NEW --baseline OLD --output FOLDER",
    "judge": "safetyvalve annotate serve",
    "roi": "safetyvalve roi TICKETS --assumptions FILE --output FOLDER",
    "plan": "safetyvalve plan --data FILE --win-rate 0.6",
    "record": "safetyvalve release record FOLDER FILE",
    "approve": 'safetyvalve release approve FOLDER --approver NAME --reason "..."',
    "decide": "safetyvalve release decide FOLDER",
}
"""By what is missing."""


class Step(NamedTuple):
    """Something to do."""

    text: str
    command: str = ""


def risks(material: Material, decision: Decision, words: Words, text: Text) -> list[str]:
    """What may turn out worse than the page says, most telling first."""
    return list(_risks(material, decision, words, text)) or [words("risk.none")]


def _risks(material: Material, decision: Decision, words: Words, text: Text) -> Iterator[str]:
    if decision.ground("overoptimization").code == "over_selected":
        yield words("risk.over")
    rate = win_rate(material)
    if rate is not None and rate.low is not None and rate.low <= 0.5:
        yield words("risk.quality", low=percent(rate.low))
    for gate in material.release.gates if material.release else ():
        loss = worst(gate)
        if gate.state != "pass" and loss is not None and loss > 0:
            yield words("risk.gate", metric=gate.metric, loss=f"{loss:.3g}")
        elif not gate.exact and gate.estimate is not None:
            yield words("risk.inexact", metric=gate.metric)
    raised = {str(a.get("name")) for a in material.runs[0].alarms if a.get("raised") is True}
    for name in sorted(raised):
        if text.has(f"alarm.{name}"):
            yield words("risk.alarm", alarm=text(f"alarm.{name}"))
    if (roi := material.roi) is not None:
        net = net_of(roi)
        if net.total.estimate < 0:
            yield words("risk.loss", total=money(net.total.estimate, roi.currency, words.lang))
        elif net.total.low < 0:
            yield words("risk.net", low=money(net.total.low, roi.currency, words.lang))
        of_roi = Words(words.lang, ROI_WORDS)
        if deciding := [of_roi(f"input.{flip.key}") for flip in net.flips if flip.within]:
            yield words("risk.flip", inputs=text.join(deciding))
    yield words("risk.seed")
    yield words("risk.filter")


def worst(gate: Gate) -> float | None:
    """The largest loss that is not excluded, in the metric's unit; below 0 it is a gain."""
    if gate.low is None or gate.high is None:
        return None
    return -gate.low if gate.better == "higher" else gate.high


def next_steps(material: Material, decision: Decision, words: Words) -> list[Step]:
    """What the decision asks for first, then what is missing, then what was planned."""
    return [*_of_release(material, words), *_of_grounds(material, decision, words), *_of_plan(material, words)]


def _of_release(material: Material, words: Words) -> Iterator[Step]:
    if material.damage is not None:
        yield Step(words("next.restore"))
    record = material.release
    if record is None:
        return
    said = ReleaseWords(words.lang)
    if record.outcome in ("rollback", "rolled_back"):
        yield Step(words("next.rollback"))
        return
    for gate in record.gates:
        if gate.state == "fail":
            yield Step(words("next.failed", metric=gate.metric))
        elif gate.state == "inconclusive":
            yield Step(words("next.gate", metric=gate.metric, note=said.note(gate)), COMMANDS["record"])
    if record.valve.state == "tripped":
        yield Step(words("next.tripped"))
    for code, values in record.reasons:
        if code in ("valve_open", "no_reward", "too_short"):
            yield Step(words("next.other", reason=said.reason(code, values)), COMMANDS["record"])


def _of_grounds(material: Material, decision: Decision, words: Words) -> Iterator[Step]:
    gates, over, people = decision.grounds
    if gates.code == "no_release":
        yield Step(words("next.release"), COMMANDS["release"])
    if over.state == "against":
        yield Step(words("next.over"))
    elif over.state == "missing":
        yield Step(words("next.score"), COMMANDS["score"])
    if people.state == "against":
        yield Step(words("next.against"))
    elif people.state == "missing":
        yield Step(words("next.kpi"), COMMANDS["judge"] + "\n" + COMMANDS["kpi"])
    if decision.proposal == "release" and material.release is not None:
        if material.release.outcome == "await_approval":
            trainers = ", ".join(material.trainers)
            yield Step(words("next.approve", trainers=trainers), COMMANDS["approve"])
        elif material.release.outcome == "promote":
            yield Step(words("next.decide"), COMMANDS["decide"])
        yield Step(words("next.watch"))
    if material.roi is None:
        yield Step(words("next.roi"), COMMANDS["roi"])


def _of_plan(material: Material, words: Words) -> Iterator[Step]:
    plan = material.plan
    if plan is None:
        yield Step(words("next.plan"), COMMANDS["plan"])
        return
    if plan.judgments is not None and plan.win_rate is not None and plan.hours is not None:
        people = words("person") if plan.people == 1 else words("persons", n=plan.people)
        rate, hours = percent(plan.win_rate), f"{plan.hours:.1f}"
        yield Step(words("next.judgments", judgments=plan.judgments, people=people, rate=rate, hours=hours))
    if plan.total is not None and plan.currency is not None:
        yield Step(words("next.cost", total=money(plan.total, plan.currency, words.lang)))
    if plan.more_helps is not None:
        yield Step(words("next.more" if plan.more_helps else "next.no_more"))
