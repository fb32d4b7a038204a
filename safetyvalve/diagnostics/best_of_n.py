"""Best-of-n from one pool of samples: what choosing by the proxy would give, for every n that the pool can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.errors import UsageError
from safetyvalve.stats import Interval, mean_interval

__all__ = ["BestOfN", "best_of_n", "best_of_n_kl", "best_of_n_values", "sizes_up_to"]

Floats = NDArray[np.float64]


class BestOfN(NamedTuple):
    """One n."""

    n: int
    kl: float
    """log n - (n - 1) / n in nats: an upper bound, exact where no two answers are equal."""
    proxy: Interval
    """Expected proxy score of the best of n by the proxy; over prompts."""
    score: Interval | None
    """Expected score, by another scorer, of the answer that the proxy chooses; None where there is none."""


def best_of_n_kl(n: int) -> float:
    """``log n - (n - 1) / n`` in nats, of the best of n against one sample. An upper bound (arXiv 2401.01879).

    Raises:
        UsageError: n below 1.
    """
    if n < 1:
        raise UsageError(f"n is {n}; it must be at least 1.")
    return math.log(n) - (n - 1) / n


def best_of_n_values(proxy: Sequence[float], scores: Sequence[float], n: int) -> float:
    """Unbiased estimate, for one prompt, of the score of the best of n by the proxy.

    The mean over all subsets of n of the N samples, ``sum_{i=n..N} C(i-1, n-1) / C(N, n) * score of the i-th smallest``
    (arXiv 2112.09332, appendix I). Equal proxy scores are ordered at random, in expectation.

    Args:
        proxy: [sample] what is chosen by.
        scores: [sample] what is asked about; the proxy itself, or another score of the same samples.
        n: from 1 to the number of samples.

    Raises:
        UsageError: lengths that differ, a score that is not finite, or an n out of range.
    """
    chosen_by, asked = np.asarray(proxy, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if chosen_by.ndim != 1 or chosen_by.shape != asked.shape:
        raise UsageError(f"there are {chosen_by.shape} proxy scores and {asked.shape} scores; one of each a sample.")
    if not (np.isfinite(chosen_by).all() and np.isfinite(asked).all()):
        raise UsageError("a score is not finite; leave unscored samples out, and count them.")
    if not 1 <= n <= len(chosen_by):
        raise UsageError(f"n is {n}; from 1 to the {len(chosen_by)} samples is accepted.")
    _, group, counts = np.unique(chosen_by, return_inverse=True, return_counts=True)
    stops = counts.cumsum()
    weights = _weights(len(chosen_by), n)
    # Each of several equal ones is as often in each of their places.
    shared = np.array([weights[stop - count : stop].mean() for stop, count in zip(stops, counts, strict=True)])
    return float(shared[group] @ asked)


def _weights(total: int, n: int) -> Floats:
    """[i] chance that the i-th smallest of ``total`` is the largest of n drawn without replacement."""
    whole = math.comb(total, n)
    return np.array([math.comb(i, n - 1) / whole for i in range(total)])


def best_of_n(
    proxy: Sequence[Sequence[float]],
    scores: Sequence[Sequence[float]] | None = None,
    *,
    sizes: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> list[BestOfN]:
    """The curve over n, with intervals that take prompts as the independent units.

    Args:
        proxy: [prompt][sample]; prompts may have different numbers of samples.
        scores: [prompt][sample] of another scorer, in the same places.
        sizes: the n to tell; None takes 1, 2, 3, 4, 6, 8, ... up to the smallest number of samples of a prompt, so that
            every n speaks of all prompts.
        confidence: of each interval.

    Raises:
        UsageError: as :func:`best_of_n_values`; no prompts; an n above the smallest number of samples.
    """
    if not len(proxy) or (scores is not None and len(scores) != len(proxy)):
        raise UsageError(
            f"there are proxy scores of {len(proxy)} prompts and scores of {len(scores or ())}; at least one prompt, "
            "and as many, are accepted."
        )
    least = min(map(len, proxy))
    result = []
    for n in sizes_up_to(least) if sizes is None else sizes:
        own = [best_of_n_values(p, p, n) for p in proxy]
        other = None
        if scores is not None:
            values = [best_of_n_values(p, s, n) for p, s in zip(proxy, scores, strict=True)]
            other = mean_interval(values, confidence=confidence)
        result.append(BestOfN(n, best_of_n_kl(n), mean_interval(own, confidence=confidence), other))
    return result


def sizes_up_to(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... and ``most`` itself."""
    powers = [2**k for k in range(most.bit_length())]
    return sorted({n for p in powers for n in (p, 3 * p // 2) if n <= most} | ({most} if most else set()))
