"""The few figures that an executive reads, taken from records and written in the page's language."""

from __future__ import annotations

from typing import NamedTuple

from safetyvalve.release.kpi_record import Kpi
from safetyvalve.release.money import money
from safetyvalve.release.roi_record import Net, Roi
from safetyvalve.release.roi_text import MESSAGES as ROI_WORDS
from safetyvalve.release.sheet import Words
from safetyvalve.report.decision.rule import Decision
from safetyvalve.report.decision.sources import Material
from safetyvalve.report.evidence import Evidence

__all__ = ["Tile", "ground_text", "headline", "net_of", "proposal_text", "return_text", "tiles", "win_rate"]


class Tile(NamedTuple):
    """One figure with what it is and what it rests on."""

    name: str
    value: str
    note: str


def win_rate(material: Material) -> Kpi | None:
    """People's win rate, if it is known."""
    figures = material.kpis.figures if material.kpis else []
    return next((f for f in figures if f.key == "human_win_rate" and f.value is not None), None)


def net_of(roi: Roi) -> Net:
    """The net that stands in front: the first scenario's, without what only comes in the long term."""
    return roi.scenarios[0].nets[0]


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def proposal_text(material: Material, decision: Decision, words: Words) -> str:
    """The decision in a line."""
    record = material.release
    if decision.proposal == "rollback":
        done = record is not None and record.outcome == "rolled_back"
        return words("proposal.rollback.done" if done else "proposal.rollback")
    if decision.proposal != "release" or record is None:
        return words(f"proposal.{decision.proposal}")
    if record.outcome == "complete":
        return words("proposal.release.complete", to=record.stage, share=f"{record.share:.0%}")
    names = [stage.name for stage in record.settings.stages]
    after = record.settings.stages[names.index(record.stage) + 1]
    key = "proposal.release.approved" if record.outcome == "promote" else "proposal.release"
    return words(key, to=after.name, share=f"{after.share:.0%}")


def headline(decision: Decision, words: Words) -> list[str]:
    """What was found on each ground, those that speak against first."""
    order = ("rollback", "against", "missing", "open", "met")
    return [ground_text(decision, g.key, words) for g in sorted(decision.grounds, key=lambda g: order.index(g.state))]


def ground_text(decision: Decision, key: str, words: Words) -> str:
    ground = decision.ground(key)
    values = {k: percent(v) if k in ("rate", "low", "high") else v for k, v in ground.values.items()}
    return words(f"why.{ground.code}", **values)


def return_text(roi: Roi | None, words: Words) -> str:
    """The net with its interval, chance and evidence."""
    if roi is None:
        return words("why.no_return")
    net, of_roi = net_of(roi), Words(words.lang, ROI_WORDS)
    return words(
        "why.return",
        net=of_roi(f"net.{net.key}"),
        total=money(net.total.estimate, roi.currency, words.lang),
        low=money(net.total.low, roi.currency, words.lang),
        high=money(net.total.high, roi.currency, words.lang),
        months=roi.horizon_months,
        p=f"{net.p_positive:.0%}",
        evidence=of_roi(f"evidence.{roi.study.design}"),
    )


def tiles(material: Material, evidence: Evidence, words: Words) -> list[Tile]:
    """People, gates, the independent score, money."""
    return [_people(material, words), _gates(material, words), _run(evidence, words), _return(material, words)]


def _people(material: Material, words: Words) -> Tile:
    rate = win_rate(material)
    if rate is None:
        return Tile(words("tile.people"), words("tile.unknown"), "")
    judge = words("tile.people.judge", judge=rate.judge) if rate.judge else ""
    note = words("tile.people.note", low=percent(rate.low), high=percent(rate.high), n=rate.n, judge=judge)
    return Tile(words("tile.people"), percent(rate.value), note)


def _gates(material: Material, words: Words) -> Tile:
    record = material.release
    if record is None:
        return Tile(words("tile.gates"), words("tile.void" if material.damage else "tile.unknown"), "")
    if record.outcome == "complete" and not record.gates:
        return Tile(words("tile.gates"), words("tile.gates.past"), words("tile.gates.past.note", stage=record.stage))
    count = {state: sum(g.state == state for g in record.gates) for state in ("pass", "inconclusive", "fail")}
    note = words("tile.gates.note", open=count["inconclusive"], failed=count["fail"], stage=record.stage)
    return Tile(words("tile.gates"), f"{count['pass']} / {len(record.gates)}", note)


def _run(evidence: Evidence, words: Words) -> Tile:
    return Tile(words("tile.run"), words(f"run.{evidence.status}"), evidence.run)


def _return(material: Material, words: Words) -> Tile:
    roi = material.roi
    if roi is None:
        return Tile(words("ground.return"), words("tile.unknown"), "")
    total = net_of(roi).total
    low, high = (money(v, roi.currency, words.lang) for v in (total.low, total.high))
    design = Words(words.lang, ROI_WORDS)(f"evidence.{roi.study.design}")
    return Tile(
        words("tile.return", months=roi.horizon_months),
        money(total.estimate, roi.currency, words.lang),
        words("tile.return.note", low=low, high=high, evidence=design),
    )
