"""What a reward model is worth on comparisons of people, and where: arrays in, a record out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from safetyvalve.data import PreferenceExample, opening_turn, response_id
from safetyvalve.errors import DataError
from safetyvalve.rewards.calibration import calibration
from safetyvalve.rewards.ledger import ScoreLine, join_scores
from safetyvalve.rewards.record import Aggregation
from safetyvalve.rewards.scores import Floats, aggregate, spread
from safetyvalve.stats import Interval, clustered_mean

__all__ = [
    "ComparedPair",
    "accuracy_interval",
    "distribution",
    "evaluate_pairs",
    "pairs_to_judge",
    "rank_correlation",
    "right",
]


class ComparedPair(NamedTuple):
    """One comparison of people."""

    winner: str
    """Response id."""
    loser: str
    cluster: str
    """Conversations that begin alike are one unit of an interval."""
    lengths: tuple[int, int]
    """Characters of winner and loser."""
    slices: Mapping[str, str]
    """What the comparison is counted under, by name of the slicing."""


def pairs_to_judge(
    examples: Sequence[PreferenceExample], columns: Mapping[tuple[str, int], Mapping[str, str]] | None = None
) -> list[ComparedPair]:
    """The comparisons of examples, sliced by turns, by length and by columns of the data.

    Args:
        examples: as they were loaded.
        columns: by file and row, further slicings of that row.
    """
    pairs = []
    for example in examples:
        place = example.place
        more = dict((columns or {}).get((place.file, place.row), {})) if place else {}
        turns = sum(m.role == "user" for m in example.prompt)
        for c in example.comparisons:
            texts = example.responses[c.winner].content, example.responses[c.loser].content
            lengths = len(texts[0]), len(texts[1])
            slices = {
                "turns of the user": str(turns) if turns < 4 else "4 or more",
                "longer response": _longer(lengths),
            }
            pairs.append(
                ComparedPair(
                    response_id(example.prompt, texts[0]),
                    response_id(example.prompt, texts[1]),
                    opening_turn(example),
                    lengths,
                    slices | {"length": _bucket(sum(lengths) / 2)} | more,
                )
            )
    return pairs


def _bucket(characters: float) -> str:
    """Of the mean length of the two responses."""
    for edge in (100, 200, 400, 800, 1600):
        if characters < edge:
            return f"under {edge} characters"
    return "1600 characters or more"


def _longer(lengths: tuple[int, int]) -> str:
    won, lost = lengths
    return "equal" if won == lost else "won" if won > lost else "lost"


def right(margins: Floats) -> Floats:
    """1 where what people chose has the higher reward, 1/2 where both have the same, else 0."""
    values: Floats = np.where(margins > 0, 1.0, np.where(margins < 0, 0.0, 0.5))
    return values


def accuracy_interval(margins: Floats, clusters: Sequence[str]) -> Interval:
    """Share of comparisons ordered as people did, 95%, conversations that begin alike as one unit.

    Where all are right, or all wrong, there is no spread to learn from: the bound is the exact one of as many
    independent units (Clopper and Pearson, 1934).
    """
    found = clustered_mean(right(margins), clusters)
    if found.n < 2 or found.standard_error > 0 or found.estimate not in (0.0, 1.0):
        return found
    far = 0.025 ** (1 / found.n)
    low, high = (far, 1.0) if found.estimate == 1 else (0.0, 1 - far)
    return Interval(found.estimate, low, high, (high - low) / 1.96, found.n)


def evaluate_pairs(
    pairs: Sequence[ComparedPair], scores: Mapping[str, ScoreLine], aggregation: Aggregation
) -> dict[str, Any]:
    """Everything that the comparisons tell of the model, as JSON values.

    Comparisons with an unscored response are counted and left out.

    Raises:
        DataError: scores that do not join, or no comparison with two scores.
    """
    ids = list(dict.fromkeys(name for pair in pairs for name in (pair.winner, pair.loser)))
    members, width = join_scores(scores, ids)
    at = {name: i for i, name in enumerate(ids)}
    won, lost = (np.array([at[getattr(p, side)] for p in pairs], dtype=int) for side in ("winner", "loser"))
    reward = aggregate(members, aggregation.method, k=aggregation.k)
    margins = reward[won] - reward[lost]
    known = np.isfinite(margins)
    if not known.any():
        raise DataError(
            f"none of the {len(pairs)} comparisons has two scored responses; at least one is needed. Look at the "
            "reasons in the scores."
        )
    kept = [p for p, fine in zip(pairs, known, strict=True) if fine]
    margins, won, lost = margins[known], won[known], lost[known]
    clusters = [p.cluster for p in kept]
    found = calibration(margins)
    return {
        "comparisons": len(pairs),
        "unscored": int((~known).sum()),
        "clusters": len(set(clusters)),
        "accuracy": said(accuracy_interval(margins, clusters)),
        "log_loss": found.log_loss,
        "calibration": {**found._asdict(), "bins": [b._asdict() for b in found.bins]},
        "length": _length_bias(kept, margins, clusters),
        "slices": _slices(kept, margins),
        "members": _members(members[:, won] - members[:, lost], margins, clusters) if len(members) > 1 else None,
        "responses": distribution(members, width, aggregation),
    }


def said(interval: Interval) -> dict[str, float | int | None]:
    """As JSON; an infinite end, of a single cluster, is null."""
    return {
        "estimate": interval.estimate,
        "low": interval.low if math.isfinite(interval.low) else None,
        "high": interval.high if math.isfinite(interval.high) else None,
        "clusters": interval.n,
    }


def _length_bias(pairs: Sequence[ComparedPair], margins: Floats, clusters: Sequence[str]) -> dict[str, Any] | None:
    """How often the longer response is preferred, by people and by the model; None where all lengths are equal."""
    difference = np.array([a - b for a, b in (p.lengths for p in pairs)], dtype=float)
    unequal = difference != 0
    if not unequal.any():
        return None
    people = (difference[unequal] > 0).astype(float)
    model = np.where(difference[unequal] > 0, right(margins[unequal]), 1 - right(margins[unequal]))
    units = [c for c, keep in zip(clusters, unequal, strict=True) if keep]
    return {
        "unequal": int(unequal.sum()),
        "people_prefer_longer": said(clustered_mean(people, units)),
        "model_prefers_longer": said(clustered_mean(model, units)),
        "difference": said(clustered_mean(model - people, units)),
        "rank_correlation": rank_correlation(margins[unequal], difference[unequal]),
    }


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Spearman's; None where a column is constant, or there are fewer than three."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(stats.spearmanr(one, other).statistic)


def _slices(pairs: Sequence[ComparedPair], margins: Floats) -> dict[str, dict[str, Any]]:
    """Accuracy by slicing and slice."""
    groups: dict[str, dict[str, list[int]]] = {}
    for index, pair in enumerate(pairs):
        for name, value in pair.slices.items():
            groups.setdefault(name, {}).setdefault(value, []).append(index)
    return {
        name: {
            value: {
                "n": len(places),
                **said(accuracy_interval(margins[places], [pairs[i].cluster for i in places])),
            }
            for value, places in sorted(by.items(), key=lambda kv: _order(kv[0]))
        }
        for name, by in groups.items()
    }


def _order(value: str) -> tuple[float, str]:
    number = next((w for w in value.split() if w.isdigit()), None)
    return (float(number) if number else math.inf, value)


def _members(margins: Floats, together: Floats, clusters: Sequence[str]) -> dict[str, Any]:
    """How alike the members order comparisons, and whether they are right where they agree.

    Args:
        margins: [member, comparison].
        together: [comparison] of the aggregated reward.
        clusters: [comparison].
    """
    signs = np.sign(margins)
    alike = [float((signs[a] == signs[b]).mean()) for a, b in combinations(range(len(signs)), 2)]
    unanimous = (signs == signs[0]).all(axis=0)
    result: dict[str, Any] = {
        "accuracy": [said(accuracy_interval(m, clusters)) for m in margins],
        "pairwise_agreement": float(np.mean(alike)),
        "unanimous": float(unanimous.mean()),
    }
    for name, where in (("where_unanimous", unanimous), ("where_divided", ~unanimous)):
        units = [c for c, keep in zip(clusters, where, strict=True) if keep]
        result[name] = {"n": len(units), **said(accuracy_interval(together[where], units))} if units else None
    return result


def distribution(members: Floats, width: Floats | None, aggregation: Aggregation) -> dict[str, Any]:
    """Mean and quantiles of reward, spread and width over responses; unscored ones are counted and left out."""
    reward = aggregate(members, aggregation.method, k=aggregation.k)
    known = np.isfinite(reward)
    columns = {"reward": reward, "spread": spread(members) if len(members) > 1 else None, "width": width}
    return {
        "n": int(known.sum()),
        "unscored": int((~known).sum()),
        **{name: _summary(values[known]) for name, values in columns.items() if values is not None and known.any()},
    }


def _summary(values: Floats) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "q05": float(low),
        "median": float(middle),
        "q95": float(high),
    }
