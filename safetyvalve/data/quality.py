"""Comparisons that say nothing, say it twice or contradict each other, and what that tells about their noise."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rapidfuzz import fuzz

from safetyvalve.data.schema import Place, PreferenceExample
from safetyvalve.data.shares import Record, Share, place_of, rows_said, share_of

__all__ = ["Contradiction", "LabelNoise", "NearEqual", "Quality", "label_noise", "quality"]

NEAR_EQUAL = 0.95
MEASURE = (
    "similarity 1 - d / (n + m) of two responses of n and m characters, d the fewest insertions and deletions that "
    "turn one into the other, after Unicode NFKC, case folding and joining spaces"
)
NOISE_FORMULA = "e = (1 - sqrt(1 - 2 d)) / 2, since two labels disagree with probability d = 2 e (1 - e)"


class Contradiction(Record):
    """Two responses to one prompt, of which each won at least once."""

    places: list[Place]
    wins: int
    """Of the response that comes first in the order of text."""
    losses: int
    within_row: bool
    """Whether a single row already holds both."""


class NearEqual(Record):
    """Two compared responses that hardly differ."""

    place: Place
    similarity: float


class LabelNoise(Record):
    """How often repeated comparisons of the same two responses disagree."""

    pairs: int
    """Pairs of responses with at least two labels: the units of the intervals."""
    labels: int
    disagreement: Share
    """Mean over pairs of the share of a pair's label pairs that disagree."""
    error_rate: Share
    """Chance that a label is the wrong way round, if that is equal and independent for all labels."""
    formula: str = NOISE_FORMULA


class Quality(Record):
    """What the comparisons of kept rows are worth."""

    exact_duplicates: list[list[Place]]
    """Rows of one content (prompt, responses and comparisons), the first of them first."""
    same_responses: list[list[Place]]
    """Rows of one prompt and one set of responses that are no exact duplicates."""
    contradictions: list[Contradiction]
    wordless: list[Place]
    """Rows with a response that has no letter and no digit."""
    folded_equal: list[Place]
    """Rows with compared responses that differ in case, width or spaces only."""
    near_equal: list[NearEqual]
    near_equal_threshold: float = NEAR_EQUAL
    near_equal_measure: str = MEASURE
    longer_won: Share | None
    """Of a row's comparisons between responses of unequal length in characters, the mean over rows, which are the units
    of the interval; None without any."""
    label_noise: LabelNoise | None
    """None where no two responses were compared twice."""

    def lines(self) -> Iterator[str]:
        for name, groups in (
            ("exact duplicates", self.exact_duplicates),
            ("same prompt and responses", self.same_responses),
        ):
            extra = sum(len(group) - 1 for group in groups)
            where = "; " + "; ".join(rows_said(group) for group in groups[:4]) + ("; ..." if len(groups) > 4 else "")
            yield f"  {name}: {extra} rows beyond the first of each" + (where if groups else "")
        inside = sum(c.within_row for c in self.contradictions)
        where = ": " + "; ".join(rows_said(c.places) for c in self.contradictions[:4]) if self.contradictions else ""
        yield (
            f"  contradictory comparisons: {len(self.contradictions)} pairs of responses, {inside} of them within a row"
            + where
            + ("; ..." if len(self.contradictions) > 4 else "")
        )
        for name, places in (
            ("responses without a letter or digit", self.wordless),
            ("responses equal but for case, width or spaces", self.folded_equal),
            (f"near-equal responses (similarity from {NEAR_EQUAL:g})", [n.place for n in self.near_equal]),
        ):
            yield f"  {name}: {len(places)}" + (f", {rows_said(places)}" if places else "")
        if self.longer_won is None:
            yield "  length bias: no two compared responses differ in length, so it cannot be told"
        else:
            yield f"  the longer response won {self.longer_won}, mean over rows"
        if self.label_noise is None:
            yield "  label noise: no two responses are compared more than once, so it cannot be estimated"
        else:
            noise = self.label_noise
            yield (
                f"  label noise: {noise.error_rate.share:.1%} of labels the wrong way round (95% interval "
                f"{noise.error_rate.low:.1%} to {noise.error_rate.high:.1%}), from {noise.pairs} pairs compared "
                f"{noise.labels} times, of which {noise.disagreement.share:.1%} disagree; {noise.formula}"
            )


class _Label(NamedTuple):
    place: Place
    first_won: bool
    annotator: str | None


def quality(examples: Sequence[PreferenceExample]) -> Quality:
    """Look at the comparisons of examples that were kept, in time linear in their number."""
    places = [place_of(example, number) for number, example in enumerate(examples, 1)]
    exact, same = _duplicates(examples, places)
    labels = _labels(examples, places)
    wordless, folded, near = [], [], []
    longer: list[float] = []
    for example, place in zip(examples, places, strict=True):
        texts = [r.content for r in example.responses]
        if any(not any(map(str.isalnum, text)) for text in texts):
            wordless.append(place)
        closest = 0.0
        for a, b in {(min(c.winner, c.loser), max(c.winner, c.loser)) for c in example.comparisons}:
            closest = max(closest, _similarity(texts[a], texts[b]))
        if closest == 1:
            folded.append(place)
        elif closest:
            near.append(NearEqual(place=place, similarity=closest))
        lengths = [(len(texts[c.winner]), len(texts[c.loser])) for c in example.comparisons]
        unequal = [(won, lost) for won, lost in lengths if won != lost]
        if unequal:
            longer.append(sum(won > lost for won, lost in unequal) / len(unequal))
    return Quality(
        exact_duplicates=exact,
        same_responses=same,
        contradictions=_contradictions(labels),
        wordless=wordless,
        folded_equal=folded,
        near_equal=near,
        longer_won=share_of(sum(longer), len(longer)) if longer else None,
        label_noise=label_noise([[label.first_won for label in _distinct(given)] for given in labels.values()]),
    )


def label_noise(repeats: Sequence[Sequence[bool]]) -> LabelNoise | None:
    """Estimate label noise from pairs of responses that were compared more than once.

    Each label is taken to be wrong with the same chance e, independently: two labels of a pair then disagree with
    probability d = 2 e (1 - e), whatever the truth, so e = (1 - sqrt(1 - 2 d)) / 2, at most one half. The interval is
    that of d (Wilson's, a pair of responses being a unit) put through the same formula.

    Args:
        repeats: by pair of responses, whether its first response won each time; pairs with one label are left out.

    Returns:
        None where no pair has two labels.
    """
    counts = [(len(labels), sum(labels)) for labels in repeats if len(labels) > 1]
    if not counts:
        return None
    disagreement = share_of(sum(2 * won * (n - won) / (n * (n - 1)) for n, won in counts), len(counts))
    rate, low, high = (
        (1 - math.sqrt(max(0.0, 1 - 2 * d))) / 2 for d in (disagreement.share, disagreement.low, disagreement.high)
    )
    error_rate = Share(share=rate, low=low, high=high, n=len(counts))
    return LabelNoise(
        pairs=len(counts), labels=sum(n for n, _ in counts), disagreement=disagreement, error_rate=error_rate
    )


def _duplicates(
    examples: Sequence[PreferenceExample], places: Sequence[Place]
) -> tuple[list[list[Place]], list[list[Place]]]:
    by_id: dict[str, list[Place]] = {}
    by_texts: dict[object, dict[str, Place]] = {}
    for example, place in zip(examples, places, strict=True):
        by_id.setdefault(example.id, []).append(place)
        texts = (_turns(example), frozenset(r.content for r in example.responses))
        by_texts.setdefault(texts, {}).setdefault(example.id, place)
    same = [list(group.values()) for group in by_texts.values() if len(group) > 1]
    return [group for group in by_id.values() if len(group) > 1], same


def _labels(examples: Sequence[PreferenceExample], places: Sequence[Place]) -> dict[object, list[_Label]]:
    """All labels by prompt and the two texts in their order."""
    found: dict[object, list[_Label]] = {}
    for example, place in zip(examples, places, strict=True):
        turns = _turns(example)
        for c in example.comparisons:
            winner, loser = example.responses[c.winner].content, example.responses[c.loser].content
            first, second = sorted((winner, loser))
            label = _Label(place, winner == first, c.annotator)
            found.setdefault((turns, first, second), []).append(label)
    return found


def _distinct(labels: Sequence[_Label]) -> list[_Label]:
    """One label a named annotator and outcome: his saying the same twice is no second opinion."""
    seen: set[tuple[str, bool]] = set()
    kept = []
    for label in labels:
        if label.annotator is not None:
            if (label.annotator, label.first_won) in seen:
                continue
            seen.add((label.annotator, label.first_won))
        kept.append(label)
    return kept


def _contradictions(labels: dict[object, list[_Label]]) -> list[Contradiction]:
    found = []
    for given in labels.values():
        wins = sum(label.first_won for label in given)
        if 0 < wins < len(given):
            sides = Counter(place for place, _ in {(label.place, label.first_won) for label in given})
            places = list(dict.fromkeys(label.place for label in given))
            within = max(sides.values()) > 1
            found.append(Contradiction(places=places, wins=wins, losses=len(given) - wins, within_row=within))
    return found


def _similarity(a: str, b: str) -> float:
    """As :data:`MEASURE` says; 0 where it is below :data:`NEAR_EQUAL`."""
    a, b = _folded(a), _folded(b)
    return fuzz.ratio(a, b, score_cutoff=100 * NEAR_EQUAL) / 100


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _turns(example: PreferenceExample) -> tuple[tuple[str, str], ...]:
    return tuple((m.role, m.content) for m in example.prompt)
