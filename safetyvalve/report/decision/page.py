"""The decision report as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from safetyvalve import __version__
from safetyvalve.release.kpi_sheet import kpi_sheet
from safetyvalve.release.roi_sheet import roi_sheet
from safetyvalve.release.sheet import Sheet, Words
from safetyvalve.release.staged.observations import stamp
from safetyvalve.release.staged.text import Words as ReleaseWords
from safetyvalve.report.alarms import alarm_rows
from safetyvalve.report.decision.charts import gate_bar, share_bar
from safetyvalve.report.decision.headline import (
    ground_text,
    headline,
    proposal_text,
    return_text,
    tiles,
    win_rate,
)
from safetyvalve.report.decision.outlook import COMMANDS, next_steps, risks
from safetyvalve.report.decision.rule import Decision, propose
from safetyvalve.report.decision.sources import Material
from safetyvalve.report.decision.words_en import ENGLISH
from safetyvalve.report.decision.words_ja import JAPANESE
from safetyvalve.report.figures import against_kl
from safetyvalve.report.finding import finding
from safetyvalve.report.observed import observed
from safetyvalve.report.page import page_environment, page_resource
from safetyvalve.report.record import number
from safetyvalve.report.text import Text, signed

__all__ = ["WORDS", "build_decision", "proposal_of"]

WORDS: dict[str, dict[str, str]] = {"en": ENGLISH, "ja": JAPANESE}
_MADE_BY = {
    "no_release": "release",
    "unscored": "score",
    "undetermined": "score",
    "no_kpis": "kpi",
    "no_people": "judge",
}
_FORM_LINES, _FORM_LENGTH = 4, 150
"""What the one page of the form holds."""


def build_decision(material: Material, lang: str = "en", remarks: Sequence[str] = ()) -> str:
    """The page.

    Args:
        material: what there is; what is missing is said, with the command that makes it.
        lang: ``en`` or ``ja``.
        remarks: what a reader must know of the material, shown under the proposal and on the form.

    Returns:
        HTML without scripts and without references to anything outside it; equal for equal material.

    Raises:
        UsageError: another language.
    """
    text, words = Text(lang), Words(lang, WORDS)
    found = finding(material.runs, lang)
    decision = propose(material, found.evidence)
    environment = page_environment(text, ("decision.html", "decision_form.html", "observed.html"))
    environment.globals |= {"w": words}
    left, steps = risks(material, decision, words, text), next_steps(material, decision, words)
    returned = None if material.roi is None else roi_sheet(material.roi, lang)
    tables = list(returned.tables) if returned else []
    context = {
        "lang": lang,
        "version": __version__,
        "css": Markup(page_resource("page.css") + page_resource("decision.css")),
        "candidate": material.candidate,
        "names": [r.name for r in material.runs],
        "decision": decision,
        "proposal": proposal_text(material, decision, words),
        "grounds": _grounds(material, decision, words),
        "tiles": tiles(material, found.evidence[0], words),
        "notices": [*remarks, *(words(f"notice.{code}", **values) for code, values in material.notices)],
        "remarks": remarks,
        "finding": found,
        "panels": against_kl(material.runs, text),
        "observed": observed(material.runs, text),
        "alarms": alarm_rows(material.runs, text),
        "release": _release(material, words),
        "damage": material.damage,
        "people": None if material.kpis is None else kpi_sheet(material.kpis, lang),
        "rate": _rate(material, words),
        "roi": returned,
        "roi_front": tables[1:3],  # amounts and nets; what they come from is folded away
        "roi_rest": [*tables[:1], *tables[3:]],
        "risks": left,
        "steps": steps,
        "approvals": _approvals(material, words),
        "trainers": material.trainers,
        "engineers": _engineers(material, words),
        "commands": COMMANDS,
        "form": _form(material, decision, left, [s.text for s in steps], words),
    }
    return environment.get_template("decision.html").render(context)


def proposal_of(material: Material, lang: str = "en") -> str:
    """The proposed decision in a line."""
    decision = propose(material, finding(material.runs, lang).evidence)
    return proposal_text(material, decision, Words(lang, WORDS))


def _grounds(material: Material, decision: Decision, words: Words) -> list[Mapping[str, str]]:
    rows = [
        {
            "name": words(f"ground.{g.key}"),
            "state": g.state,
            "said": words(f"state.{g.state}"),
            "found": ground_text(decision, g.key, words),
            "command": COMMANDS.get(_MADE_BY.get(g.code, ""), "") if g.state == "missing" else "",
        }
        for g in decision.grounds
    ]
    money = {
        "name": words("ground.return"),
        "state": "informs",
        "said": words("state.informs"),
        "found": return_text(material.roi, words),
        "command": "" if material.roi else COMMANDS["roi"],
    }
    return [*rows, money]


def _release(material: Material, words: Words) -> dict[str, Any] | None:
    record = material.release
    if record is None:
        return None
    said = ReleaseWords(words.lang)
    gates = []
    for gate in record.gates:
        name, state, change, bounds, margin, units, note = said.gate(gate)
        line = "gates.none" if not change or not bounds else "gates.line"
        gates.append(
            {
                "name": name,
                "state": gate.state,
                "said": state,
                "bar": gate_bar(gate, words("gates.aria", metric=name, state=state)),
                "line": words(line, change=change, bounds=bounds, margin=margin, units=units, note=note),
            }
        )
    return {
        "title": said(
            "title", name=record.name, state=said(f"state.{record.state}"), stage=record.stage, share=record.share
        ),
        "reasons": [said.reason(code, values) for code, values in record.reasons],
        "gates": gates,
        "bounds": said("bounds", rate=1 - record.settings.error_rates.promote),
        "valve": said.valve(record.valve),
        "head": record.head,
        "evidence": record.evidence_hash,
        "count": words("evidence.note", n=record.observations, earlier=record.earlier),
    }


def _rate(material: Material, words: Words) -> Markup | None:
    rate = win_rate(material)
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        return None
    title = f"{words('tile.people')}: {rate.value:.1%} ({rate.low:.1%} – {rate.high:.1%})"
    return share_bar(rate.low, rate.value, rate.high, title)


def _approvals(material: Material, words: Words) -> list[tuple[str, str]]:
    """(``counts`` or ``void``, what is said) of each."""
    if material.damage is not None:
        return [
            ("void", words("approval.unverified", approver=name, at=stamp(at)))
            for name, at in material.damage.approvals
        ]
    if material.release is None:
        return []
    said = ReleaseWords(words.lang)
    return [("counts" if a.problem is None else "void", said.approval(a)) for a in material.release.approvals]


def _engineers(material: Material, words: Words) -> list[str]:
    record = material.runs[0]
    _, moved = record.series("held_out/chosen_displacement")
    shown = signed(moved[-1], 1) if moved else words("unknown")
    eta = number(record.config.get("eta")) or 0.0
    kind = "limit" if record.config.get("max_displacement") is not None else "on" if eta else "off"
    return [
        words(f"engineers.sft.{kind}", eta=f"{eta:.3g}", moved=shown),
        words("engineers.reward"),
        words("engineers.people"),
    ]


def _form(
    material: Material, decision: Decision, left: list[str], steps: list[str], words: Words
) -> list[tuple[str, list[str]]]:
    """(heading, lines) of the one-page form, cut so that it stays one page."""
    record, people = material.release, _people_line(material, words)
    rows = [
        ("subject", [words("form.subject.text", candidate=material.candidate)]),
        ("proposal", [proposal_text(material, decision, words)]),
        ("reasons", headline(decision, words)),
        ("people", [people]),
        ("effect", [return_text(material.roi, words)]),
        ("risks", left),
        ("next", steps),
        (
            "record",
            [record.head] if record else [words("absent.release" if material.damage is None else "why.damaged")],
        ),
        ("trained", [", ".join(material.trainers) or words("trainers.none")]),
        ("drafted", [""]),
    ]
    return [(words(f"form.{key}"), [_short(line) for line in lines[:_FORM_LINES]]) for key, lines in rows]


def _people_line(material: Material, words: Words) -> str:
    sheet: Sheet | None = None if material.kpis is None else kpi_sheet(material.kpis, words.lang)
    return words("why.no_kpis") if sheet is None else str(sheet.sentences[0])


def _short(line: str) -> str:
    return line if len(line) <= _FORM_LENGTH else line[: _FORM_LENGTH - 1] + "…"
