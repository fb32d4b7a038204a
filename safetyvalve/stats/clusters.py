"""Variances that allow for verdicts on the same prompt, or by the same person, being alike."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from safetyvalve.errors import UsageError, shorten
from safetyvalve.stats.intervals import Interval

__all__ = ["checked_confidence", "checked_values", "cluster_codes", "cluster_covariance", "clustered_mean"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def checked_confidence(confidence: float) -> float:
    """The confidence if it is inside (0, 1)."""
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95.")
    return confidence


def checked_values(values: Any, name: str = "values", *, low: float = -math.inf, high: float = math.inf) -> Floats:
    """One dimension of at least one finite number in [low, high], as float64.

    Raises:
        UsageError: with the first value that is not accepted and its index.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise UsageError(f"{name} have shape {array.shape}; at least one number, in one dimension, is accepted.")
    wrong = ~(np.isfinite(array) & (array >= low) & (array <= high))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        accepted = "finite numbers" if math.isinf(low) else f"numbers from {low:g} to {high:g}"
        raise UsageError(f"{name}[{at}] is {array[at]}; {accepted} are accepted: remove or mend it first.")
    return array


def cluster_codes(labels: Sequence[Hashable], n: int, name: str = "clusters") -> tuple[Codes, int]:
    """Labels as integers from 0, in order of first appearance, and how many there are.

    Raises:
        UsageError: not one label a value, or a label that is missing (None or NaN).
    """
    if len(labels) != n:
        raise UsageError(f"{name} has {len(labels)} labels for {n} values; one a value is accepted.")
    seen: dict[Hashable, int] = {}
    codes = np.empty(n, dtype=np.intp)
    for i, label in enumerate(labels):
        # Only NaN differs from itself; as labels, NaNs would each be a cluster of their own.
        if label is None or label != label:
            raise UsageError(f"{name}[{i}] is {shorten(label)}; every value needs a label, such as its prompt_id.")
        codes[i] = seen.setdefault(label, len(seen))
    return codes, len(seen)


def cluster_covariance(scores: Floats, codes: Codes, n_clusters: int) -> Floats:
    """C/(C-1) times the sum over clusters of the outer product of their summed scores.

    Args:
        scores: [n, k], mean zero over n: residuals, or the gradients of a likelihood.
        codes: [n] from :func:`cluster_codes`.
        n_clusters: C, at least 2.

    Returns:
        [k, k], the covariance of the column sums.
    """
    sums = np.zeros((n_clusters, scores.shape[1]))
    np.add.at(sums, codes, scores)
    return sums.T @ sums * (n_clusters / (n_clusters - 1))


def crossed_covariance(scores: Floats, one: tuple[Codes, int], two: tuple[Codes, int] | None) -> tuple[Floats, int]:
    """Covariance of column sums with one way of clustering or two crossed ones, and its degrees of freedom.

    Two ways: V1 + V2 - V12 (Cameron, Gelbach and Miller 2011, https://doi.org/10.1198/jbes.2010.07136). The difference
    can be smaller than either or not even positive; then the larger one-way covariance (by trace) is returned, so that
    a second way of clustering does not narrow an interval.
    """
    first = cluster_covariance(scores, *one)
    if two is None:
        return first, one[1] - 1
    second = cluster_covariance(scores, *two)
    both = np.unique(one[0] * two[1] + two[0], return_inverse=True)[1]
    crossed = first + second - cluster_covariance(scores, both.astype(np.intp), int(both.max()) + 1)
    degrees = min(one[1], two[1]) - 1
    larger = first if np.trace(first) >= np.trace(second) else second
    good = np.linalg.eigvalsh(crossed).min() >= 0 and np.trace(crossed) >= np.trace(larger)
    return (crossed if good else larger), degrees


def clustered_mean(
    values: Sequence[float] | Floats,
    clusters: Sequence[Hashable],
    *,
    crossed: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean of all values with an interval that takes clusters as the independent units.

    Args:
        values: [n], finite.
        clusters: [n] labels, mostly prompts.
        crossed: [n] labels of a second way of clustering, mostly annotators. With it the interval speaks of new prompts
            *and* new annotators; it needs many of both.
        confidence: in (0, 1).

    Returns:
        Mean, t interval with C-1 degrees of freedom (C the smaller number of clusters), C/(C-1) correction. ``n`` is C.
        Infinitely wide with a single cluster.

    Raises:
        UsageError: a value that is not finite, a missing label, lengths that differ, a confidence outside (0, 1).
    """
    checked_confidence(confidence)
    array = checked_values(values)
    one = cluster_codes(clusters, array.size)
    two = None if crossed is None else cluster_codes(crossed, array.size, "crossed")
    mean = float(array.mean())
    least = one[1] if two is None else min(one[1], two[1])
    if least == 1:
        return Interval(mean, -math.inf, math.inf, math.inf, 1)
    covariance, degrees = crossed_covariance((array - mean)[:, None], one, two)
    error = math.sqrt(float(covariance[0, 0])) / array.size
    reach = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * error
    return Interval(mean, mean - reach, mean + reach, error, least)
