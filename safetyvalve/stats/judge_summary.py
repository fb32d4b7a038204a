"""Each judge beside people: accuracy, what it favours, what its verdicts mean, and what it saves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from safetyvalve.errors import DataError
from safetyvalve.stats.agreement import Agreement, cohen_kappa, majority
from safetyvalve.stats.intervals import Interval
from safetyvalve.stats.judge_bias import (
    Meaning,
    accuracy,
    family_bias,
    length_bias,
    meaning_of_verdicts,
    position_bias,
)
from safetyvalve.stats.prediction_powered import PredictionPowered, ppi_mean
from safetyvalve.stats.resolve import Resolved, oriented
from safetyvalve.stats.summary import by_group, category, prompt_means
from safetyvalve.stats.verdicts import SCORES, RaterKind, Verdict

__all__ = ["CorrectedLine", "JudgeLine", "summarize_corrected", "summarize_judges"]


class JudgeLine(NamedTuple):
    """One judge, rubric or reward model. Entries that cannot be had are None, with the reason in ``missing``."""

    judge: str
    kind: RaterKind
    items: int
    none: int
    one_order: int
    """Items judged in a single order (or in one that was not recorded)."""
    both_orders: int
    disagreed: int
    """Of those judged in both orders: different verdicts, counted as ties."""
    position: Interval | None
    common: int
    """Items that people judged too."""
    accuracy: Interval | None
    """Against the majority of people; items without a verdict left out."""
    kappa: Agreement | None
    length: Interval | None
    family: Interval | None
    meaning: tuple[Meaning, ...]
    missing: Mapping[str, str]


class CorrectedLine(NamedTuple):
    """Win rate of model a by people and one judge together (PPI++)."""

    judge: str
    model_a: str
    model_b: str
    result: PredictionPowered
    weighted: bool
    """Chances of being drawn were recorded and used."""


def summarize_judges(
    entries: Sequence[Resolved],
    verdicts: Iterable[Verdict],
    *,
    family: Mapping[str, Iterable[str]] | None = None,
    confidence: float = 0.95,
) -> list[JudgeLine]:
    """A line for every rater that is not a person.

    Args:
        entries: resolved verdicts.
        verdicts: as given; position is lost in the resolved ones.
        family: judge -> models of its own family.
        confidence: in (0, 1).
    """
    records = [v for v in verdicts if not v.gold]
    people: dict[str, list[Resolved]] = {}
    for entry in entries:
        if entry.kind == "human" and entry.score is not None:
            people.setdefault(entry.item, []).append(entry)
    return [
        _judge(
            name, rows, [v for v in records if v.rater == name], people, set((family or {}).get(name, ())), confidence
        )
        for (name, kind), rows in by_group(entries).items()
        if kind != "human"
    ]


def _judge(
    name: str,
    rows: list[Resolved],
    records: list[Verdict],
    people: Mapping[str, list[Resolved]],
    own: set[str],
    confidence: float,
) -> JudgeLine:
    missing: dict[str, str] = {}
    decided = [r for r in rows if r.score is not None]
    common = [r for r in decided if r.item in people]
    majorities = [majority([category(h) for h in people[r.item]]) for r in common]
    prompts = [r.prompt for r in common]
    judged = [r.score for r in common if r.score is not None]
    human = [sum(h.score or 0.0 for h in people[r.item]) / len(people[r.item]) for r in common]
    right = kappa = length = bias = None
    meaning: tuple[Meaning, ...] = ()
    if not common:
        missing["people"] = "no item has a verdict of a person and of this judge"
    else:
        verdict = [category(r) for r in common]
        right = accuracy(verdict, majorities, prompts, confidence=confidence)
        meaning = tuple(meaning_of_verdicts(verdict, human, prompts, confidence=confidence))
        try:
            kappa = cohen_kappa(verdict, majorities, clusters=prompts, confidence=confidence)
        except DataError as error:
            missing["kappa"] = str(error)
        sized = [i for i, r in enumerate(common) if r.length_a is not None and r.length_b is not None]
        try:
            if not sized:
                raise DataError("no item has the lengths of both answers")
            j, h = ([column[i] for i in sized] for column in (judged, human))
            a, b = ([float(getattr(common[i], f"length_{side}")) for i in sized] for side in "ab")
            length = length_bias(j, h, a, b, [prompts[i] for i in sized], confidence=confidence)
        except DataError as error:
            missing["length"] = str(error)
        try:
            if not own:
                raise DataError("it was not said which models are of this judge's family")
            own_a, own_b = [r.model_a in own for r in common], [r.model_b in own for r in common]
            bias = family_bias(judged, human, own_a, own_b, prompts, confidence=confidence)
        except DataError as error:
            missing["family"] = str(error)
    position = _position(records, confidence)
    if position is None:
        missing["position"] = "it was not recorded whose answer came first, or each model was always on the same side"
    both = sum(r.orders == 2 for r in rows)
    return JudgeLine(
        name,
        rows[0].kind,
        len(rows),
        len(rows) - len(decided),
        len(rows) - both,
        both,
        sum(r.disagreed for r in rows if r.orders == 2),
        position,
        len(common),
        right,
        kappa,
        length,
        bias,
        meaning,
        missing,
    )


def _position(records: list[Verdict], confidence: float) -> Interval | None:
    """None where no position was recorded, or where every pair had one side only, so that side and model are one."""
    placed = [v for v in records if v.position is not None and v.verdict in SCORES]
    sides: dict[tuple[str, ...], set[bool]] = {}
    for v in placed:
        sides.setdefault(tuple(sorted((v.model_a, v.model_b))), set()).add((v.position == "a_first") != oriented(v)[1])
    varied = [v for v in placed if len(sides[tuple(sorted((v.model_a, v.model_b)))]) == 2]
    if not varied:
        return None
    return position_bias(
        [SCORES[v.verdict] for v in varied],
        [v.position == "a_first" for v in varied],
        [v.prompt_id for v in varied],
        confidence=confidence,
    )


def summarize_corrected(entries: Sequence[Resolved], *, confidence: float = 0.95) -> list[CorrectedLine]:
    """PPI++ for every pair and judge where the judge saw prompts that people did not."""
    lines = []
    pairs = sorted({(r.model_a, r.model_b) for r in entries})
    groups = by_group(entries)
    people = [r for (_, kind), rows in groups.items() if kind == "human" for r in rows]
    for (judge, kind), rows in groups.items():
        if kind == "human":
            continue
        for pair in pairs:
            human = [r for r in people if (r.model_a, r.model_b) == pair and r.score is not None]
            said = prompt_means(human)
            judged = prompt_means(r for r in rows if (r.model_a, r.model_b) == pair)
            same = [p for p in said if p in judged]
            other = [judged[p] for p in judged if p not in said]
            if len(same) < 3 or len(other) < 2:
                continue
            weight = {r.prompt: r.weight for r in human}
            known = [w for p in same if (w := weight[p]) is not None]
            weights = known if len(known) == len(same) else None
            if weights and max(weights) > min(weights) * (1 + 1e-9):
                # What an unequal draw left over is no sample of all prompts; all of them are.
                other = list(judged.values())
            result = ppi_mean(
                [said[p] for p in same], [judged[p] for p in same], other, weights=weights, confidence=confidence
            )
            lines.append(CorrectedLine(judge, *pair, result, weights is not None))
    return lines
