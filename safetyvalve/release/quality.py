"""Human win rate of a candidate against a baseline, with a judge's help where people's labels are few."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from safetyvalve.errors import DataError
from safetyvalve.stats import Interval, Resolved, Verdict, clustered_mean, resolve, win_rate
from safetyvalve.stats.judge_summary import CorrectedLine, summarize_corrected

__all__ = ["FEW_LABELS", "HumanWinRate", "human_win_rate"]

FEW_LABELS = 300
"""Prompts with verdicts of people under which a judge helps, if there is one: from there on people alone suffice to
within about 6 points, and nothing of a judge has to be trusted."""


class HumanWinRate(NamedTuple):
    """What people prefer."""

    candidate: str
    baseline: str
    interval: Interval
    """Of the candidate's win rate, in [0, 1], ties one half; ``n`` counts prompts with verdicts of people."""
    judge: str | None
    """Whose verdicts helped, by PPI++; None for people alone."""
    random_sample: bool
    """Whether the chances of being drawn were recorded; without them PPI++ rests on the user's word."""
    people_only: Interval
    both_bad: Interval
    people: int
    verdicts: int
    none: int
    length_ratio: float | None
    """Mean length of the candidate's answers over the baseline's; None where a verdict has no lengths."""


def human_win_rate(
    verdicts: Sequence[Verdict],
    candidate: str,
    baseline: str | None = None,
    *,
    judge: str | None = None,
    confidence: float = 0.95,
) -> HumanWinRate:
    """Win rate by people.

    Args:
        verdicts: of people, and of judges if there are any.
        candidate: model whose win rate it is.
        baseline: the other one; may be left out where the candidate met one model only.
        judge: whose verdicts help; if not given, under 300 prompts the one with the most.
        confidence: in (0, 1).

    Raises:
        DataError: a model that is not there, several baselines and none named, or no verdict of a person.
    """
    entries = resolve(verdicts)
    baseline = _baseline(entries, candidate, baseline)
    mine = [e for e in entries if {e.model_a, e.model_b} == {candidate, baseline}]
    people = [e for e in mine if e.kind == "human"]
    decided = [e for e in people if e.score is not None]
    if not decided:
        raise DataError(
            f"no person judged '{candidate}' against '{baseline}' ({len(mine)} verdicts of others): a judge alone is "
            "no "
            "evidence of what people prefer. Have people judge: safetyvalve annotate serve."
        )
    flipped = decided[0].model_a != candidate
    scores = [1 - s if flipped else s for e in decided if (s := e.score) is not None]
    prompts = [e.prompt for e in decided]
    alone = win_rate(scores, prompts, confidence=confidence).interval
    bad = clustered_mean([float(e.verdict == "both_bad") for e in decided], prompts, confidence=confidence)
    line = _corrected(mine, judge, confidence) if judge is not None or alone.n < FEW_LABELS else None
    if judge is not None and line is None:
        raise DataError(
            f"judge '{judge}' has too few verdicts on this pair to help: at least 3 prompts that people judged too "
            "and 2 "
            "that they did not are needed. Judge more prompts with it, or leave it out."
        )
    interval = alone if line is None else _turned(line.result.interval, flipped)
    return HumanWinRate(
        candidate,
        baseline,
        interval,
        None if line is None else line.judge,
        line is None or line.weighted,
        alone,
        bad._replace(low=max(0.0, bad.low), high=min(1.0, bad.high)),
        len({e.rater for e in decided}),
        len(decided),
        len(people) - len(decided),
        _length_ratio(decided, flipped),
    )


def _baseline(entries: Sequence[Resolved], candidate: str, baseline: str | None) -> str:
    models = sorted({m for e in entries for m in (e.model_a, e.model_b)})
    for name in (candidate, baseline):
        if name is not None and name not in models:
            near = difflib.get_close_matches(name, models, n=1)
            remedy = f"Did you mean '{near[0]}'?" if near else "Name one of these."
            raise DataError(f"no verdict is about '{name}'; models are {', '.join(models)}. {remedy}")
    met = sorted(
        {m for e in entries if candidate in (e.model_a, e.model_b) for m in (e.model_a, e.model_b)} - {candidate}
    )
    if baseline is None:
        if len(met) != 1:
            raise DataError(f"'{candidate}' met {', '.join(met)}. Name the one to compare with by --baseline.")
        return met[0]
    if baseline not in met:
        raise DataError(
            f"'{candidate}' was not compared with '{baseline}', but with {', '.join(met)}. Name one of these."
        )
    return baseline


def _corrected(entries: Sequence[Resolved], judge: str | None, confidence: float) -> CorrectedLine | None:
    """PPI++ with one judge: a choice by the narrowest interval would be a choice by luck."""
    lines = [
        line for line in summarize_corrected(entries, confidence=confidence) if judge is None or line.judge == judge
    ]
    kinds = {e.rater: e.kind for e in entries}
    lines = [line for line in lines if kinds[line.judge] == "judge" or line.judge == judge]
    return max(lines, key=lambda line: (line.result.judge_only.n, line.judge), default=None)


def _turned(interval: Interval, flipped: bool) -> Interval:
    low, high = max(0.0, interval.low), min(1.0, interval.high)
    if not flipped:
        return interval._replace(low=low, high=high)
    return interval._replace(estimate=1 - interval.estimate, low=1 - high, high=1 - low)


def _length_ratio(entries: Sequence[Resolved], flipped: bool) -> float | None:
    pairs = [(e.length_a, e.length_b) for e in entries]
    if any(a is None or b is None for a, b in pairs):
        return None
    first, second = (sum(float(v or 0) for v in side) for side in zip(*pairs, strict=True))
    own, other = (second, first) if flipped else (first, second)
    return own / other if other else None
