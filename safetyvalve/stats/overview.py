"""One call from verdicts to everything that is printed or written about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from safetyvalve.errors import UsageError
from safetyvalve.stats.cautions import cautions
from safetyvalve.stats.clusters import checked_confidence
from safetyvalve.stats.judge_summary import CorrectedLine, JudgeLine, summarize_corrected, summarize_judges
from safetyvalve.stats.resolve import resolve
from safetyvalve.stats.summary import (
    AgreementLine,
    PairLine,
    RankingLine,
    summarize_agreement,
    summarize_pairs,
    summarize_rankings,
)
from safetyvalve.stats.verdicts import Verdict

__all__ = ["Overview", "plain", "summarize"]


class Overview(NamedTuple):
    """Everything that a set of verdicts tells."""

    confidence: float
    verdicts: int
    gold: int
    """Left out: items that test the rater."""
    pairs: list[PairLine]
    rankings: list[RankingLine]
    agreement: list[AgreementLine]
    judges: list[JudgeLine]
    corrected: list[CorrectedLine]
    cautions: list[str]


def summarize(
    verdicts: Sequence[Verdict], *, family: Mapping[str, Iterable[str]] | None = None, confidence: float = 0.95
) -> Overview:
    """Win rates, rankings, agreement, judges against people, and cautions.

    Args:
        verdicts: of people, judges, rubrics and reward models, in any order; of one evaluation.
        family: judge -> models of its own family, for its bias towards them.
        confidence: in (0, 1), of every interval on its own.

    Raises:
        UsageError: no verdicts, a family of a judge or with a model that is not there.
    """
    checked_confidence(confidence)
    entries = resolve(verdicts)
    if not entries:
        raise UsageError(f"there are {len(verdicts)} verdicts, none on an item that is not gold; nothing to summarize.")
    models = {m for e in entries for m in (e.model_a, e.model_b)}
    raters = {e.rater for e in entries if e.kind != "human"}
    for judge, own in (family or {}).items():
        if judge not in raters or not set(own) <= models:
            raise UsageError(
                f"the family of {judge!r} is {sorted(own)}; judges here are {sorted(raters)}, models {sorted(models)}."
            )
    pairs = summarize_pairs(entries, confidence=confidence)
    rankings = summarize_rankings(entries, confidence=confidence)
    agreement = summarize_agreement(entries, verdicts, confidence=confidence)
    judges = summarize_judges(entries, verdicts, family=family, confidence=confidence)
    corrected = summarize_corrected(entries, confidence=confidence)
    said = cautions(pairs, rankings, agreement, judges, corrected, confidence=confidence)
    gold = sum(v.gold for v in verdicts)
    return Overview(confidence, len(verdicts), gold, pairs, rankings, agreement, judges, corrected, said)


def plain(value: Any) -> Any:
    """Named tuples as objects, infinity and NaN as null: what JSON can hold."""
    if hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
