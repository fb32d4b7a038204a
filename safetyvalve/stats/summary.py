"""All that a file of verdicts tells: pairs, rankings, agreement, judges against people, and what it does not tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from safetyvalve.errors import DataError
from safetyvalve.stats.agreement import Agreement, cohen_kappa, krippendorff_alpha
from safetyvalve.stats.bradley_terry import Ranking, bradley_terry, one_sided_models
from safetyvalve.stats.clusters import clustered_mean
from safetyvalve.stats.intervals import Interval
from safetyvalve.stats.length_control import LengthControlled, length_controlled_win_rate
from safetyvalve.stats.resolve import Resolved, oriented
from safetyvalve.stats.sequential import Sequential, anytime_interval
from safetyvalve.stats.verdicts import RaterKind, Verdict
from safetyvalve.stats.win_rate import WinRate, win_rate

__all__ = [
    "AgreementLine",
    "PairLine",
    "RankingLine",
    "by_group",
    "summarize_agreement",
    "summarize_pairs",
    "summarize_rankings",
]

PEOPLE = "people"
ORDER = ("b", "tie", "a")


class PairLine(NamedTuple):
    """Model a against model b as one group of raters sees it."""

    raters: str
    """``people`` together, or one judge, rubric or reward model."""
    kind: RaterKind
    model_a: str
    model_b: str
    rate: WinRate | None
    """Of model a, clustered by prompt; None where there was no verdict at all."""
    crossed: Interval | None
    """The same for new annotators too; only with at least two people."""
    people: int
    both_bad: int
    none: int
    controlled: LengthControlled | None
    controlled_reason: str
    """Why there is no rate at equal length."""
    anytime: Sequential | None
    """Over prompts, each the mean of its verdicts."""


class RankingLine(NamedTuple):
    """The ranking by one group of raters, or why there is none."""

    raters: str
    ranking: Ranking | None
    reason: str
    groups: tuple[tuple[str, ...], ...]
    """More than one where a group of models won everything against the next, so that the prior bounds the distance."""


class AgreementLine(NamedTuple):
    """Two people, or all of them, or a person with themselves; or why nothing can be said."""

    who: str
    measure: str
    agreement: Agreement | None
    reason: str


def by_group(entries: Iterable[Resolved]) -> dict[tuple[str, RaterKind], list[Resolved]]:
    """People together, everything else by name."""
    groups: dict[tuple[str, RaterKind], list[Resolved]] = {}
    for entry in entries:
        name = PEOPLE if entry.kind == "human" else entry.rater
        groups.setdefault((name, entry.kind), []).append(entry)
    return dict(sorted(groups.items(), key=lambda g: (g[0][1] != "human", g[0])))


def summarize_pairs(entries: Sequence[Resolved], *, confidence: float = 0.95) -> list[PairLine]:
    """A line for every pair of models and group of raters."""
    lines = []
    for (name, kind), group in by_group(entries).items():
        pairs: dict[tuple[str, str], list[Resolved]] = {}
        for entry in group:
            pairs.setdefault((entry.model_a, entry.model_b), []).append(entry)
        lines += [_pair(name, kind, *models, rows, confidence) for models, rows in sorted(pairs.items())]
    return lines


def _pair(name: str, kind: RaterKind, model_a: str, model_b: str, rows: list[Resolved], confidence: float) -> PairLine:
    decided = [r for r in rows if r.score is not None]
    none = len(rows) - len(decided)
    people = len({r.rater for r in decided})
    both_bad = sum(r.verdict == "both_bad" for r in decided)
    if not decided:
        return PairLine(name, kind, model_a, model_b, None, None, people, 0, none, None, "there are no verdicts", None)
    scores, prompts = scores_of(decided), [r.prompt for r in decided]
    crossed = None
    if kind == "human" and people > 1:
        crossed = win_rate(scores, prompts, annotators=[r.rater for r in decided], confidence=confidence).interval
    controlled, reason = _controlled(decided, confidence)
    units = list(prompt_means(decided).values())
    return PairLine(
        name,
        kind,
        model_a,
        model_b,
        win_rate(scores, prompts, confidence=confidence),
        crossed,
        people,
        both_bad,
        none,
        controlled,
        reason,
        anytime_interval(units, confidence=confidence),
    )


def _controlled(rows: list[Resolved], confidence: float) -> tuple[LengthControlled | None, str]:
    known = [(r.length_a, r.length_b, r) for r in rows if r.length_a is not None and r.length_b is not None]
    if len(known) < len(rows):
        return None, f"{len(rows) - len(known)} of {len(rows)} verdicts have no lengths"
    a, b = [float(k[0]) for k in known], [float(k[1]) for k in known]
    try:
        prompts = [r.prompt for r in rows]
        return length_controlled_win_rate(scores_of(rows), a, b, prompts, confidence=confidence), ""
    except DataError as error:
        return None, str(error)


def scores_of(rows: Iterable[Resolved]) -> list[float]:
    """What model a won, of the entries that have a verdict."""
    return [r.score for r in rows if r.score is not None]


def prompt_means(rows: Iterable[Resolved]) -> dict[str, float]:
    """Mean score of model a on each prompt, in order of appearance."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.score is not None:
            scores.setdefault(row.prompt, []).append(row.score)
    return {prompt: sum(values) / len(values) for prompt, values in scores.items()}


def summarize_rankings(entries: Sequence[Resolved], *, confidence: float = 0.95) -> list[RankingLine]:
    """A Bradley-Terry ranking for every group of raters that saw three models or more."""
    lines = []
    for (name, _), group in by_group(entries).items():
        rows = [r for r in group if r.score is not None]
        first, second, scores = [r.model_a for r in rows], [r.model_b for r in rows], scores_of(rows)
        if len({*first, *second}) < 3:
            continue
        groups = tuple(tuple(g) for g in one_sided_models(first, second, scores))
        try:
            prior = 0.0 if len(groups) == 1 else 0.5
            prompts = [r.prompt for r in rows]
            ranking = bradley_terry(first, second, scores, prompts, prior=prior, confidence=confidence)
            lines.append(RankingLine(name, ranking, "", groups))
        except DataError as error:
            lines.append(RankingLine(name, None, str(error), groups))
    return lines


@dataclass(frozen=True)
class _Ratings:
    """Verdicts of people with both bad counted as a tie, which is where it stands between a and b."""

    table: dict[str, dict[str, str]]
    """rater -> item -> category."""
    prompt: dict[str, str]


def _ratings(entries: Iterable[Resolved]) -> _Ratings:
    table: dict[str, dict[str, str]] = {}
    prompt: dict[str, str] = {}
    for entry in entries:
        if entry.kind == "human" and entry.score is not None:
            table.setdefault(entry.rater, {})[entry.item] = category(entry)
            prompt[entry.item] = entry.prompt
    return _Ratings(table, prompt)


def category(entry: Resolved) -> str:
    """a, b or tie; both bad counts as a tie."""
    return "tie" if entry.verdict == "both_bad" else entry.verdict


def summarize_agreement(
    entries: Sequence[Resolved], verdicts: Iterable[Verdict], *, confidence: float = 0.95, most_pairs: int = 10
) -> list[AgreementLine]:
    """Alpha of all people, nominal and ordinal; kappa of the pairs of people with the most items in common; repeats."""
    ratings = _ratings(entries)
    lines = []
    flat = [(i, v) for items in ratings.table.values() for i, v in items.items()]
    if len(ratings.table) > 1:
        for level in ("nominal", "ordinal"):
            try:
                found = krippendorff_alpha(
                    [i for i, _ in flat],
                    [v for _, v in flat],
                    level=level,
                    order=ORDER,
                    clusters=[ratings.prompt[i] for i, _ in flat],
                    confidence=confidence,
                )
                lines.append(AgreementLine(f"{len(ratings.table)} people", f"alpha, {level}", found, ""))
            except DataError as error:
                lines.append(AgreementLine(f"{len(ratings.table)} people", f"alpha, {level}", None, str(error)))
    pairs = []
    for one, two in itertools.combinations(sorted(ratings.table), 2):
        if common := sorted(ratings.table[one].keys() & ratings.table[two].keys()):
            pairs.append((one, two, common))
    for one, two, common in sorted(pairs, key=lambda p: -len(p[2]))[:most_pairs]:
        first, second = ([ratings.table[r][i] for i in common] for r in (one, two))
        prompts = [ratings.prompt[i] for i in common]
        lines.append(_kappa_line(f"{one} and {two}", first, second, prompts, confidence))
    lines += _self_consistency(verdicts, confidence)
    return lines


def _self_consistency(verdicts: Iterable[Verdict], confidence: float) -> list[AgreementLine]:
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for v in verdicts:
        if v.rater_kind == "human" and not v.gold and v.verdict != "none":
            groups.setdefault((v.rater, v.item_id), []).append(v)
    twice = [sorted(g, key=lambda v: v.repeat)[:2] for g in groups.values() if len(g) > 1]
    if not twice:
        return []
    first, second = ([oriented(g[k])[0].replace("both_bad", "tie") for g in twice] for k in (0, 1))
    return [_kappa_line("people with themselves", first, second, [g[0].prompt_id for g in twice], confidence)]


def _kappa_line(who: str, first: list[str], second: list[str], prompts: list[str], confidence: float) -> AgreementLine:
    try:
        return AgreementLine(who, "kappa", cohen_kappa(first, second, clusters=prompts, confidence=confidence), "")
    except DataError as error:
        same = clustered_mean([float(a == b) for a, b in zip(first, second, strict=True)], prompts)
        return AgreementLine(who, "kappa", None, f"{error} ({same.estimate:.0%} of {len(first)} agree)")
