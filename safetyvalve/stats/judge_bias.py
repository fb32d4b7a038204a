"""What a judge favours that people do not (first, longer, own family), and what its verdicts mean in people's terms."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import Floats, checked_values, clustered_mean
from safetyvalve.stats.intervals import Interval

__all__ = [
    "CalibrationMap",
    "Meaning",
    "accuracy",
    "calibration_map",
    "family_bias",
    "length_bias",
    "meaning_of_verdicts",
    "position_bias",
]

Missing = Literal["drop", "wrong", "tie"]


def position_bias(
    scores: Sequence[float] | Floats,
    a_first: Sequence[bool],
    prompts: Sequence[Hashable],
    *,
    confidence: float = 0.95,
) -> Interval:
    """How much more the answer shown first wins than the fair half: mean score of the first answer, minus one half.

    Fair only where sides were drawn at random or every item was judged in both orders.

    Args:
        scores: [n] in [0, 1], from the side of model a.
        a_first: [n] whether model a's answer was shown first.
        prompts: [n] labels.
        confidence: in (0, 1).
    """
    array = checked_values(scores, "scores", low=0, high=1)
    _same_length(array.size, len(a_first), "a_first")
    first = np.where(np.asarray(a_first, dtype=bool), array, 1 - array)
    return _shift(clustered_mean(first, prompts, confidence=confidence), -0.5)


def length_bias(
    judge: Sequence[float] | Floats,
    human: Sequence[float] | Floats,
    length_a: Sequence[float] | Floats,
    length_b: Sequence[float] | Floats,
    prompts: Sequence[Hashable],
    *,
    confidence: float = 0.95,
) -> Interval:
    """How much more often than people the judge prefers the longer answer, on the same items.

    Longer answers may be better; only what goes beyond people's own preference is bias. Items of equal length are left
    out.

    Args:
        judge, human: [n] scores in [0, 1] of model a on the same items.
        length_a, length_b: [n] in one unit.
        prompts: [n] labels.
        confidence: in (0, 1).

    Raises:
        DataError: no item has answers of different length.
    """
    j, h = _paired(judge, human)
    sign = np.sign(checked_values(length_a, "length_a") - checked_values(length_b, "length_b"))
    _same_length(j.size, sign.size, "length_a")
    keep = sign != 0
    if not keep.any():
        raise DataError("no item has answers of different length, so that nothing can be said about length.")
    return clustered_mean(
        ((j - h) * sign)[keep], [p for p, k in zip(prompts, keep, strict=True) if k], confidence=confidence
    )


def family_bias(
    judge: Sequence[float] | Floats,
    human: Sequence[float] | Floats,
    own_a: Sequence[bool],
    own_b: Sequence[bool],
    prompts: Sequence[Hashable],
    *,
    confidence: float = 0.95,
) -> Interval:
    """How much more often than people the judge prefers the answer of its own family over another's, on the same items.

    Args:
        judge, human: [n] scores in [0, 1] of model a on the same items.
        own_a, own_b: [n] whether model a (b) is of the judge's family; items with both or none are left out.
        prompts: [n] labels.
        confidence: in (0, 1).

    Raises:
        DataError: no item sets the judge's own family against another.
    """
    j, h = _paired(judge, human)
    sign = np.asarray(own_a, dtype=int) - np.asarray(own_b, dtype=int)
    _same_length(j.size, sign.size, "own_a")
    keep = sign != 0
    if not keep.any():
        raise DataError("no item sets an answer of the judge's own family against another's; judge such items.")
    return clustered_mean(
        ((j - h) * sign)[keep], [p for p, k in zip(prompts, keep, strict=True) if k], confidence=confidence
    )


def accuracy(
    judge: Sequence[str | None],
    human: Sequence[str],
    clusters: Sequence[Hashable],
    *,
    missing: Missing = "drop",
    confidence: float = 0.95,
) -> Interval:
    """Share of items on which the judge's verdict is people's.

    Args:
        judge: [n] categories; None where there was no verdict.
        human: [n] categories on the same items, such as a majority.
        clusters: [n] labels.
        missing: what no verdict counts as: left out, wrong, or the category ``tie``. Say which beside the number.
        confidence: in (0, 1).

    Raises:
        DataError: the judge gave no verdict at all and ``missing`` is ``drop``.
    """
    if missing not in ("drop", "wrong", "tie"):
        raise UsageError(f"missing is {missing!r}; drop, wrong and tie are accepted.")
    _same_length(len(judge), len(human), "human")
    rows = [
        (float((v if v is not None else "tie" if missing == "tie" else None) == h), c)
        for v, h, c in zip(judge, human, clusters, strict=True)
        if v is not None or missing != "drop"
    ]
    if not rows:
        raise DataError("the judge gave no verdict on any item; count these as wrong or as ties, or mend the judge.")
    return clustered_mean([r for r, _ in rows], [c for _, c in rows], confidence=confidence)


class Meaning(NamedTuple):
    """What people said where the judge gave one verdict."""

    judge: str
    human: Interval
    """Mean human score of model a."""
    items: int


def meaning_of_verdicts(
    judge: Sequence[str], human: Sequence[float] | Floats, prompts: Sequence[Hashable], *, confidence: float = 0.95
) -> list[Meaning]:
    """For every verdict of the judge the mean human score of its items: 1 for ``a``, 0 for ``b`` if it is right."""
    h = checked_values(human, "human", low=0, high=1)
    _same_length(h.size, len(judge), "judge")
    table = []
    for verdict in sorted(set(judge)):
        at = [i for i, v in enumerate(judge) if v == verdict]
        interval = clustered_mean(h[at], [prompts[i] for i in at], confidence=confidence)
        table.append(
            Meaning(verdict, interval._replace(low=max(0.0, interval.low), high=min(1.0, interval.high)), len(at))
        )
    return table


class CalibrationMap(NamedTuple):
    """Human preference as a rising step function of a judge's score difference."""

    scores: Floats
    """[k] rising score differences at which the map is known."""
    preference: Floats
    """[k] human mean score there, never falling."""

    def __call__(self, scores: Sequence[float] | Floats) -> Floats:
        """The map between its knots by straight lines, and flat outside."""
        return np.interp(checked_values(scores, "scores"), self.scores, self.preference)


def calibration_map(scores: Sequence[float] | Floats, human: Sequence[float] | Floats) -> CalibrationMap:
    """Isotonic regression of human scores on a judge's score differences (a reward margin, say).

    Args:
        scores: [n] judge's score of model a minus that of model b.
        human: [n] in [0, 1].

    Raises:
        DataError: all scores are equal.
    """
    s, h = checked_values(scores, "scores"), checked_values(human, "human", low=0, high=1)
    _same_length(s.size, h.size, "human")
    knots, codes = np.unique(s, return_inverse=True)
    if knots.size == 1:
        raise DataError(f"all scores are {knots[0]:g}; a map needs scores that differ.")
    weights = np.bincount(codes).astype(np.float64)
    fitted = isotonic_regression(np.bincount(codes, h) / weights, weights=weights).x
    return CalibrationMap(knots, np.asarray(fitted))


def _paired(judge: Sequence[float] | Floats, human: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    j, h = checked_values(judge, "judge", low=0, high=1), checked_values(human, "human", low=0, high=1)
    _same_length(j.size, h.size, "human")
    return j, h


def _same_length(expected: int, found: int, name: str) -> None:
    if expected != found:
        raise UsageError(f"{name} has {found} entries; {expected}, one an item, are accepted.")


def _shift(interval: Interval, by: float) -> Interval:
    return interval._replace(estimate=interval.estimate + by, low=interval.low + by, high=interval.high + by)
