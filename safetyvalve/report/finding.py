"""The finding: exactly two sentences that say what the numbers show, for one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from safetyvalve.report.evidence import Evidence, FinalComparison, Pair, compare_runs, evidence_of
from safetyvalve.report.record import RunRecord, check_names
from safetyvalve.report.text import Text, decimals_for, fixed, signed
from safetyvalve.stats import Interval

__all__ = ["Finding", "finding"]

_DETAILED = 3
"""Runs up to which a sentence gives each run's numbers; above it gives names."""
_ORDER = ("overoptimized", "worse", "no_change", "improved", "undetermined", "unscored")
_NLL = "held_out/nll_per_token"
_DISPLACEMENT = "held_out/chosen_displacement"


class Finding(NamedTuple):
    """What a report states first, and the numbers behind it."""

    sentences: tuple[str, str]
    evidence: tuple[Evidence, ...]
    """One a run, in the order given."""
    comparison: FinalComparison | None
    """None where final scores cannot be compared."""

    @property
    def scored(self) -> bool:
        """Whether any run has independent scores."""
        return any(e.status != "unscored" for e in self.evidence)

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def finding(records: Sequence[RunRecord], lang: str = "en") -> Finding:
    """State what the runs show.

    The first sentence says which runs overoptimized, improved, got worse or show no change, by the independent score;
    the second compares their final scores. Without an independent score the first says that nothing can be concluded
    and the second gives displacement as a symptom.

    Args:
        records: runs of distinct names, at least one.
        lang: ``en`` or ``ja``.

    Raises:
        RunError: no runs, or two of one name.
        UsageError: another language.
    """
    text = Text(lang)
    check_names(records)
    evidence = tuple(evidence_of(record) for record in records)
    scorers = {str(r.config.get("scorer")) for r, e in zip(records, evidence, strict=True) if e.final}
    comparison = compare_runs(evidence) if len(scorers) == 1 else None
    if all(e.status == "unscored" for e in evidence):
        names = text.join([e.run for e in evidence])
        return Finding((text("finding.unscored", runs=names), _symptom(records, text)), evidence, None)
    return Finding((_verdicts(evidence, text), _finals(evidence, comparison, scorers, text)), evidence, comparison)


def _verdicts(evidence: Sequence[Evidence], text: Text) -> str:
    ordered = sorted(evidence, key=lambda e: _ORDER.index(e.status))
    if len(ordered) <= _DETAILED:
        clauses = [_clause(e, text) for e in ordered]
    else:
        groups = {status: [e.run for e in ordered if e.status == status] for status in _ORDER}
        clauses = [text(f"group.{status}", runs=text.join(runs)) for status, runs in groups.items() if runs]
    return text("finding.verdicts", clauses=text("clause.joint").join(clauses))


def _clause(e: Evidence, text: Text) -> str:
    if e.verdict is None:
        return text(f"clause.{e.status}", run=e.run)
    places = decimals_for(e.verdict.gain)
    fall_from = e.verdict.fall_from
    return text(
        f"clause.{e.status}",
        run=e.run,
        start=fixed(e.means[0], places),
        start_when=_start(e, text),
        before=fixed(e.means[e.steps.index(fall_from)], places),
        before_when=text("when.start") if fall_from == 0 else text("when.step", step=fall_from),
        after=fixed(e.means[-1], places),
        after_when=text("when.step", step=e.steps[-1]),
    )


def _start(e: Evidence, text: Text) -> str:
    return text("when.start") if e.steps[0] == 0 else text("when.step", step=e.steps[0])


def _finals(evidence: Sequence[Evidence], comparison: FinalComparison | None, scorers: set[str], text: Text) -> str:
    scored = [e for e in evidence if e.final]
    if comparison is None:
        if len(scored) == 1:
            return _end_of_one(scored[0], text)
        if len(scorers) > 1:
            return text("final.scorers", scorers=text.join(sorted(scorers)))
        return text("final.prompts" if scored else "final.nothing")
    if len(comparison.pairs) == 1:
        return _two(comparison, comparison.pairs[0], text)
    return _several(comparison, text)


def _end_of_one(e: Evidence, text: Text) -> str:
    if e.verdict is None:
        return text("final.nothing")
    gain = e.verdict.gain
    kind = "higher" if gain.low > 0 else "lower" if gain.high < 0 else "same"
    shown = _flip(gain) if kind == "lower" else gain
    places = decimals_for(gain)
    return text(
        f"final.one.{kind}",
        run=e.run,
        step=e.steps[-1],
        score=fixed(e.means[-1], places),
        difference=signed(shown.estimate, places) if kind == "same" else fixed(shown.estimate, places),
        interval=text.span(shown, places),
        start_when=_start(e, text),
    )


def _two(comparison: FinalComparison, pair: Pair, text: Text) -> str:
    places = decimals_for(pair.result.difference)
    return text(
        "final.two.higher" if pair.result.kind == "first" else "final.two.same",
        best=comparison.best,
        other=pair.other,
        score=fixed(comparison.best_mean, places),
        other_score=fixed(pair.other_mean, places),
        difference=fixed(pair.result.difference.estimate, places),
        interval=text.span(pair.result.difference, places),
    )


def _several(comparison: FinalComparison, text: Text) -> str:
    """The best run against each other, those it is above and those it cannot be told from."""
    above = [p for p in comparison.pairs if p.result.kind == "first"]
    level = [p for p in comparison.pairs if p.result.kind != "first"]
    values = {
        "best": comparison.best,
        "score": fixed(comparison.best_mean, decimals_for(comparison.pairs[0].result.difference)),
        "above": text.join([_versus(p, text, "final.versus.above", len(comparison.pairs)) for p in above]),
        "level": text.join([_versus(p, text, "final.versus.level", len(comparison.pairs)) for p in level]),
    }
    return text("final.several." + ("both" if above and level else "above" if above else "level"), **values)


def _versus(pair: Pair, text: Text, key: str, count: int) -> str:
    if count > _DETAILED:
        return pair.other
    difference = pair.result.difference
    places = decimals_for(difference)
    return text(
        key, other=pair.other, difference=fixed(difference.estimate, places), interval=text.span(difference, places)
    )


def _symptom(records: Sequence[RunRecord], text: Text) -> str:
    """Displacement of the chosen responses at the last evaluation, in nats; of runs without comparisons, the NLL."""
    changes = []
    for record in records:
        _, values = record.series(_DISPLACEMENT)
        if len(values) > 1:
            changes.append(
                text("symptom.run", run=record.name, change=signed(values[-1], 1 if abs(values[-1]) >= 1 else 2))
            )
    if changes:
        return text("finding.symptom", changes=text.join(changes))
    learned = [(r.name, values) for r in records if len(values := r.series(_NLL)[1]) > 1]
    if not learned:
        return text("finding.no_symptom")
    shown = [text("nll.run", run=name, first=fixed(v[0], 2), last=fixed(v[-1], 2)) for name, v in learned]
    return text("finding.nll", changes=text.join(shown))


def _flip(interval: Interval) -> Interval:
    return interval._replace(estimate=-interval.estimate, low=-interval.high, high=-interval.low)
