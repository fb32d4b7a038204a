"""How often one model is preferred: ties count one half."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from safetyvalve.stats.clusters import Floats, checked_confidence, checked_values, cluster_codes, clustered_mean
from safetyvalve.stats.intervals import Interval

__all__ = ["WinRate", "win_rate"]

FEW_CLUSTERS = 30


class WinRate(NamedTuple):
    """Share of comparisons that a model won, ties as one half."""

    interval: Interval
    """Within [0, 1]; ``n`` counts clusters."""
    verdicts: int
    ties: float
    """Share of scores of exactly one half."""
    exact: bool
    """All clusters agreed to the digit, so that the bound comes from their number and not from their spread."""

    @property
    def shows(self) -> str:
        """``better``, ``worse`` or ``open``: which side of one half the interval is on."""
        return "better" if self.interval.low > 0.5 else "worse" if self.interval.high < 0.5 else "open"


def win_rate(
    scores: Sequence[float] | Floats,
    prompts: Sequence[Hashable],
    *,
    annotators: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> WinRate:
    """Win rate with an interval clustered by prompt, and by annotator too if they are given.

    Args:
        scores: [n] in [0, 1]: 1 won, 0 lost, 1/2 a tie or both bad.
        prompts: [n] labels.
        annotators: [n] labels; the interval then also allows for having asked other people.
        confidence: in (0, 1).

    Returns:
        The rate; its t interval cut to [0, 1]. Where all C clusters have one and the same mean v there is no spread to
        learn from, and the interval is [v q, v q + 1 - q] with q = (1 - confidence)^(1/C): had the chance of such a
        cluster been below q, C in a row would have had a chance below 1 - confidence.

    Raises:
        UsageError: a score outside [0, 1], a missing label, lengths that differ.
    """
    array = checked_values(scores, "scores", low=0, high=1)
    interval = clustered_mean(array, prompts, crossed=annotators, confidence=checked_confidence(confidence))
    codes, n = cluster_codes(prompts, array.size)
    means = np.bincount(codes, array, n) / np.bincount(codes, minlength=n)
    least = n if annotators is None else interval.n
    exact = bool(np.ptp(means) < 1e-12)
    if exact:
        q = (1 - confidence) ** (1 / least)
        low, high = float(means[0]) * q, float(means[0]) * q + 1 - q
        interval = Interval(interval.estimate, low, high, interval.standard_error, least)
    else:
        interval = interval._replace(low=max(interval.low, 0.0), high=min(interval.high, 1.0))
    return WinRate(interval, array.size, float(np.mean(array == 0.5)), exact)
