"""What more data is worth: a learner's accuracy on nested subsets, with its spread, and at most one doubling beyond."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import Codes, Floats, checked_confidence, cluster_codes, clustered_mean
from safetyvalve.stats.intervals import Interval
from safetyvalve.stats.linear_reward import choose_ridge, fit_linear_reward, preference_loss

__all__ = [
    "LEAST_GROUPS",
    "SHAPES",
    "SMALLEST",
    "Curve",
    "Extrapolation",
    "Learner",
    "Point",
    "extrapolate",
    "learn_linear",
    "learning_curve",
    "needed_comparisons",
    "nested_sizes",
]

Masks = NDArray[np.bool_]
Learner = Callable[[Codes, Codes], Floats]
"""(indices to learn from, indices to judge) -> the margin of each judged comparison, above 0 where it is right."""

SMALLEST = 40
"""Comparisons of the smallest subset; fewer tell chance from nothing."""
LEAST_SIZES = 3
LEAST_GROUPS = 40
"""Conversations; with a quarter of them held out, ten are the units of an interval."""
MOST_SIZES = 6
SHAPES = (0.0, 0.25, 0.5, 1.0)
"""Exponents c of a - b n^-c, with a - b log n for 0. 1 is the rate of a well-specified learner's excess loss, 1/2 the
worst case; real curves are mostly flatter."""
FITTED = 4
"""Largest sizes that the shapes are fitted to; smaller ones say little about what comes next."""


class Point(NamedTuple):
    """What the learner reaches on held-out comparisons with so many to learn from."""

    comparisons: int
    accuracy: Interval
    """Share ordered as people did, ties half; interval over conversations, which hold all repeats of a prompt."""
    log_loss: Interval
    """Mean of log(1 + exp(-margin)), nats; log 2 = 0.693 is chance."""
    draws: tuple[float, ...]
    """Accuracy of each draw of a split and a subset."""
    spread: float
    """Standard deviation over the draws."""


class Curve(NamedTuple):
    """Points from the smallest to the largest subset, each half of the next."""

    points: tuple[Point, ...]
    gains: tuple[Interval, ...]
    """Accuracy at each point but the first less that at the point before, paired by comparison."""
    hits: Floats
    """[draw, group, size] sums of correctness over a group's held-out comparisons, for resampling."""
    counts: Floats
    """[draw, group] held-out comparisons."""

    @property
    def largest(self) -> int:
        """Comparisons of the last point."""
        return self.points[-1].comparisons


class Extrapolation(NamedTuple):
    """Not measured: what the curve's shape suggests for more comparisons of the same kind."""

    comparisons: int
    accuracy: Interval
    """Over resampled conversations and draws and over :data:`SHAPES`; ``n`` is the number of conversations."""
    gain: Interval
    """Against the largest measured point."""


def needed_comparisons(held_out: float) -> int:
    """Fewest comparisons, held-out ones among them, from which a curve is made."""
    return int(np.ceil(SMALLEST * 2 ** (LEAST_SIZES - 1) / (1 - held_out)))


def nested_sizes(largest: int) -> tuple[int, ...]:
    """Halves of ``largest`` down to :data:`SMALLEST`, at most six, ascending.

    Raises:
        DataError: fewer than three sizes.
    """
    sizes = [largest // 2**k for k in range(MOST_SIZES)]
    sizes = sorted(s for s in sizes if s >= SMALLEST)
    if len(sizes) < LEAST_SIZES:
        raise DataError(
            f"there are {largest} comparisons to learn from; a learning curve needs {SMALLEST * 2 ** (LEAST_SIZES - 1)}"
            f", which is {LEAST_SIZES} sizes from {SMALLEST} on. Collect more, or go without a curve."
        )
    return tuple(sizes)


def learn_linear(differences: Floats, groups: Sequence[Hashable]) -> Learner:
    """A linear Bradley-Terry reward, its ridge chosen inside what it learns from.

    Features are scaled to equal spread, and the whole to a mean square length of 1, by what is learned from.

    Args:
        differences: [n, p], features of the preferred response less those of the other.
        groups: [n] conversations.
    """
    codes, _ = cluster_codes(groups, len(differences), "groups")

    def learn(known: Codes, unseen: Codes) -> Floats:
        spread = np.sqrt(np.mean(differences[known] ** 2, axis=0))
        scale = np.where(spread > 0, spread, 1.0) * np.sqrt(differences.shape[1])
        x = differences[known] / scale
        w = fit_linear_reward(x, ridge=choose_ridge(x, codes[known]))
        return np.asarray((differences[unseen] / scale) @ w)

    return learn


def learning_curve(
    learner: Learner,
    groups: Sequence[Hashable],
    held_out: Masks,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Curve:
    """Measure the learner on nested subsets of the data.

    In each draw whole groups are held out, the others are put in a random order, and the learner sees the first n
    comparisons of it: so each subset holds all smaller ones, and no group is on both sides.

    Args:
        learner: see :data:`Learner`; deterministic.
        groups: [n] conversations.
        held_out: [draw, n] comparisons held out in each draw, whole groups; at least 2 draws.
        confidence: of the intervals.
        seed: of the subsets' order.
        progress: called with fits done and their total.

    Raises:
        DataError: too few comparisons or groups.
        UsageError: shapes that are not accepted, or a group on both sides.
    """
    codes, n_groups = cluster_codes(groups, held_out.shape[1], "groups")
    if len(held_out) < 2:
        raise UsageError(f"there is {len(held_out)} draw; at least 2 are accepted, which have a spread.")
    if n_groups < LEAST_GROUPS:
        raise DataError(
            f"there are {n_groups} conversations (opening turns); a learning curve needs {LEAST_GROUPS}. Collect more."
        )
    sizes = nested_sizes(int((~held_out).sum(1).min()))
    generator = np.random.default_rng(seed)
    correct: list[Floats] = []
    losses: list[Floats] = []
    judged: list[Codes] = []
    for number, mask in enumerate(held_out):
        if np.intersect1d(codes[mask], codes[~mask]).size:
            raise UsageError(f"draw {number} holds out a part of a group; whole groups are accepted.")
        shuffled = generator.permutation(n_groups)
        order = np.flatnonzero(~mask)
        order = order[np.argsort(shuffled[codes[order]], kind="stable")]
        test = np.flatnonzero(mask)
        margins = np.empty((test.size, len(sizes)))
        for k, size in enumerate(sizes):
            margins[:, k] = learner(order[:size], test)
            if progress is not None:
                progress(number * len(sizes) + k + 1, len(held_out) * len(sizes))
        correct.append((margins > 0) + (margins == 0) / 2)
        losses.append(preference_loss(margins))
        judged.append(test)
    return _summary(sizes, correct, losses, [codes[test] for test in judged], n_groups, checked_confidence(confidence))


def _summary(
    sizes: Sequence[int], correct: list[Floats], losses: list[Floats], owners: list[Codes], n_groups: int, level: float
) -> Curve:
    hits = np.zeros((len(correct), n_groups, len(sizes)))
    counts = np.zeros((len(correct), n_groups))
    for draw, (right, owner) in enumerate(zip(correct, owners, strict=True)):
        np.add.at(hits[draw], owner, right)
        np.add.at(counts[draw], owner, 1)
    values, nats, clusters = np.concatenate(correct), np.concatenate(losses), np.concatenate(owners).tolist()
    points = []
    for k, size in enumerate(sizes):
        draws = [float(right[:, k].mean()) for right in correct]
        accuracy = clustered_mean(values[:, k], clusters, confidence=level)
        loss = clustered_mean(nats[:, k], clusters, confidence=level)
        points.append(Point(size, accuracy, loss, tuple(draws), float(np.std(draws, ddof=1))))
    gains = [clustered_mean(values[:, k] - values[:, k - 1], clusters, confidence=level) for k in range(1, len(sizes))]
    return Curve(tuple(points), tuple(gains), hits, counts)


def extrapolate(
    curve: Curve,
    comparisons: int,
    *,
    measured: int | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Extrapolation:
    """The accuracy with more comparisons, up to twice the most that were measured, and no further.

    For each resampling of conversations and of draws, each of :data:`SHAPES` is fitted by least squares to the last
    points; the interval is over all of them together, the estimate their mean. Which shape is true the data cannot
    tell within a doubling, so that none is chosen.

    Args:
        curve: as measured.
        comparisons: from the most measured to twice as many.
        measured: use only the first so many points (at least 3), to try the rule on what is known.
        confidence: of the interval.
        replicates: resamplings.
        seed: of the resamplings.

    Raises:
        UsageError: more than twice the most that were measured, or fewer.
    """
    points = len(curve.points) if measured is None else measured
    if not LEAST_SIZES <= points <= len(curve.points):
        raise UsageError(f"measured is {points}; {LEAST_SIZES} to the curve's {len(curve.points)} are accepted.")
    sizes = np.array([p.comparisons for p in curve.points[:points]], dtype=np.float64)
    most = int(sizes[-1])
    # Halving rounds down, so that the double of a point can be one short of the next.
    if not most <= comparisons <= 2 * most + 1:
        raise UsageError(
            f"comparisons is {comparisons}; the curve was measured up to {most}, and {most} to {2 * most} are accepted:"
            " beyond the next doubling nothing is claimed. Collect up to there and measure again."
        )
    first = max(0, points - FITTED)
    drawn = _resampled(curve, replicates, checked_confidence(confidence), seed)[:, first:points]
    value = np.array([p.accuracy.estimate for p in curve.points[first:points]])
    found = np.stack([_shape(sizes[first:], drawn, comparisons, c) for c in SHAPES])
    central = float(np.mean([_shape(sizes[first:], value[None], comparisons, c)[0] for c in SHAPES]))
    groups = int((curve.counts.sum(0) > 0).sum())
    return Extrapolation(
        comparisons,
        _interval(min(max(central, 0.0), 1.0), np.clip(found, 0, 1), groups, confidence),
        _interval(central - float(value[-1]), found - drawn[None, :, -1], groups, confidence),
    )


def _shape(sizes: Floats, accuracy: Floats, at: float, exponent: float) -> Floats:
    """Least squares of a - b n^-c (a + b log n for c = 0) to each row of ``accuracy``, read off at ``at``."""

    def terms(n: Floats) -> Floats:
        return np.stack([np.ones_like(n), np.log(n) if exponent == 0 else -(n**-exponent)], axis=1)

    # The value at one point is linear in the accuracies, with the same coefficients in every row.
    reading = terms(np.array([float(at)])) @ np.linalg.pinv(terms(sizes))
    return np.asarray(accuracy @ reading[0])


def _resampled(curve: Curve, replicates: int, confidence: float, seed: int) -> Floats:
    """[replicate, size] accuracies with conversations and draws both drawn with replacement."""
    if replicates < 100 or replicates * (1 - confidence) < 5:
        raise UsageError(f"replicates is {replicates}; at least 100, and 5 outside the interval, are accepted.")
    generator = np.random.default_rng(seed)
    n_draws, n_groups, _ = curve.hits.shape
    result = np.empty((replicates, curve.hits.shape[2]))
    for r in range(replicates):
        draws = generator.multinomial(n_draws, np.full(n_draws, 1 / n_draws)).astype(np.float64)
        groups = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups)).astype(np.float64)
        weight = draws @ curve.counts @ groups
        result[r] = np.einsum("d,g,dgk->k", draws, groups, curve.hits, optimize=True) / weight
    return result


def _interval(estimate: float, values: Floats, n: int, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(estimate, float(min(low, estimate)), float(max(high, estimate)), float(values.std()), n)
