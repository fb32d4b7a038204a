"""How far raters agree beyond chance: Cohen's kappa for two of them, Krippendorff's alpha for any number."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.stats.clusters import Codes, Floats, checked_confidence, cluster_codes
from safetyvalve.stats.intervals import Interval
from safetyvalve.stats.resampling import bootstrap_sums, sums_by_cluster

__all__ = ["Agreement", "Level", "cohen_kappa", "krippendorff_alpha", "majority"]

Level = Literal["nominal", "ordinal"]


class Agreement(NamedTuple):
    """A coefficient (1 perfect, 0 chance) with its bootstrap interval over clusters, and the plain share agreeing."""

    interval: Interval
    raw: float
    """Share of pairs of ratings of the same unit that are equal."""
    units: int
    """Units with at least two ratings."""


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Cohen's kappa (1960) of two raters of the same units, nominal.

    Args:
        first, second: [n] categories; position i of both is the same unit.
        clusters: [n] labels that are resampled whole, such as prompts; units if not given.
        confidence: in (0, 1).
        replicates: bootstrap draws.
        seed: of the draws.

    Raises:
        UsageError: lengths that differ, nothing to compare, a rating that is missing.
        DataError: both raters gave one and the same category throughout, which leaves kappa undefined.
    """
    if len(first) != len(second) or not len(first):
        raise UsageError(f"the raters gave {len(first)} and {len(second)} ratings; one each a unit is accepted.")
    n = len(first)
    both, k = cluster_codes([*first, *second], 2 * n, "ratings")
    codes, groups = cluster_codes(range(n) if clusters is None else clusters, n)
    table = np.zeros((n, k, k))
    table[np.arange(n), both[:n], both[n:]] = 1
    if k == 1:
        raise DataError(
            f"all ratings are {shorten(first[0])}; kappa is undefined without two categories: see the raw share."
        )
    per_cluster = sums_by_cluster(table.reshape(n, -1), codes, groups)
    interval = _interval(per_cluster, lambda t: _kappa(t.reshape(-1, k, k)), confidence, replicates, seed)
    return Agreement(interval, float(np.trace(table.sum(0)) / n), n)


def _kappa(tables: Floats) -> Floats:
    share = tables / tables.sum((1, 2), keepdims=True)
    observed = np.trace(share, axis1=1, axis2=2)
    expected = np.einsum("rk,rk->r", share.sum(1), share.sum(2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def krippendorff_alpha(
    units: Sequence[Hashable],
    values: Sequence[Hashable],
    *,
    level: Level = "nominal",
    order: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Krippendorff's alpha for any number of raters, with ratings missing at will.

    Krippendorff, Content Analysis (2019), chapter 12. Units with one rating say nothing and are left out.

    Args:
        units: [n] what was rated, one entry a rating.
        values: [n] the rating.
        level: ``nominal`` or ``ordinal``.
        order: all categories from low to high; asked for by ``ordinal``.
        clusters: [n] labels that are resampled whole, such as prompts; units if not given.
        confidence: in (0, 1).
        replicates: bootstrap draws.
        seed: of the draws.

    Raises:
        UsageError: lengths that differ, a level without its order, a value that is not in the order.
        DataError: no unit has two ratings, or all ratings are equal, which leaves alpha undefined.
    """
    if level not in ("nominal", "ordinal"):
        raise UsageError(f"level is {level!r}; nominal and ordinal are accepted.")
    if level == "ordinal" and order is None:
        raise UsageError("level 'ordinal' needs order: all categories from low to high.")
    if len(units) != len(values) or not len(values):
        raise UsageError(f"there are {len(units)} units and {len(values)} values; one of each a rating is accepted.")
    row, n_units = cluster_codes(units, len(values), "units")
    categories = list(dict.fromkeys(values)) if order is None else list(order)
    column = {value: i for i, value in enumerate(categories)}
    if unknown := [v for v in values if v not in column]:
        raise UsageError(f"value {shorten(unknown[0])} is not in order {shorten(categories)}; add it, or leave it out.")
    counts = np.zeros((n_units, len(categories)))
    np.add.at(counts, (row, np.array([column[v] for v in values])), 1)
    owner = _owner(row, n_units, clusters)
    keep = counts.sum(1) >= 2
    if not keep.any():
        raise DataError("no unit has two ratings; agreement needs units that at least two raters saw: set an overlap.")
    counts, (codes, groups) = counts[keep], cluster_codes(owner[keep].tolist(), int(keep.sum()))
    if (counts.sum(0) > 0).sum() == 1:
        raise DataError(
            f"all ratings are {shorten(categories[int(counts.sum(0).argmax())])}; alpha is undefined without two "
            "categories: see the raw share."
        )
    total = counts.sum(1)[:, None, None]
    k = counts.shape[1]
    pairs = (counts[:, :, None] * counts[:, None, :] - np.eye(k) * counts[:, :, None]) / (total - 1)
    per_cluster = sums_by_cluster(pairs.reshape(len(pairs), -1), codes, groups)
    interval = _interval(per_cluster, lambda t: _alpha(t.reshape(-1, k, k), level), confidence, replicates, seed)
    whole = pairs * (total - 1)
    return Agreement(interval, float(np.einsum("ukk->", whole) / whole.sum()), len(counts))


def _owner(row: Codes, n_units: int, clusters: Sequence[Hashable] | None) -> Codes:
    """The cluster of each unit; a unit in two clusters is an error."""
    if clusters is None:
        return np.arange(n_units)
    codes, _ = cluster_codes(clusters, len(row))
    owner = np.full(n_units, -1, dtype=np.intp)
    for unit, code in zip(row, codes, strict=True):
        if owner[unit] not in (-1, code):
            raise UsageError(f"unit {unit} is in two clusters; every unit belongs to one, such as its prompt.")
        owner[unit] = code
    return owner


def _alpha(coincidences: Floats, level: Level) -> Floats:
    """Alpha of each coincidence matrix [R, k, k]; not a number where one category is all there is."""
    margin = coincidences.sum(2)
    n = margin.sum(1)
    k = margin.shape[1]
    if level == "nominal":
        distance = np.broadcast_to(1.0 - np.eye(k), coincidences.shape)
    else:
        middle = np.cumsum(margin, axis=1) - margin / 2
        distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    observed = (coincidences * distance).sum((1, 2)) / n
    expected = (margin[:, :, None] * margin[:, None, :] * distance).sum((1, 2)) / (n * (n - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def _interval(
    per_cluster: Floats, statistic: Callable[[Floats], Floats], confidence: float, replicates: int, seed: int
) -> Interval:
    """Percentile interval; a draw in which the coefficient is undefined counts as the worst for either end."""
    tail = (1 - checked_confidence(confidence)) / 2
    estimate = float(statistic(per_cluster.sum(0)[None])[0])
    if len(per_cluster) == 1:
        return Interval(estimate, -1.0, 1.0, np.inf, 1)
    drawn = statistic(bootstrap_sums(per_cluster, replicates, np.random.default_rng(seed)))
    low = float(np.quantile(np.where(np.isnan(drawn), -1.0, drawn), tail))
    high = float(np.quantile(np.where(np.isnan(drawn), 1.0, drawn), 1 - tail))
    return Interval(estimate, low, high, float(np.nanstd(drawn, ddof=1)), len(per_cluster))


def majority(values: Sequence[str], *, otherwise: str = "tie") -> str:
    """What more than half of the raters said, and ``otherwise`` where there is no such thing."""
    if not values:
        raise UsageError("there are no values; a majority needs one at least.")
    best = max(set(values), key=values.count)
    return best if 2 * values.count(best) > len(values) else otherwise
