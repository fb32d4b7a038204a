"""Confidence intervals of means over independent units (prompts, mostly)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from safetyvalve.errors import UsageError

__all__ = ["Interval", "mean_interval", "proportion_interval"]


class Interval(NamedTuple):
    """An estimate with a two-sided confidence interval, in the unit of the values."""

    estimate: float
    low: float
    high: float
    standard_error: float
    n: int
    """Independent units behind it."""


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean.

    Args:
        values: one an independent unit; average a prompt's samples, and take paired differences, before.
        confidence: in (0, 1). For m intervals that are to hold together pass ``1 - (1 - confidence) / m``.

    Returns:
        The mean and its interval; infinitely wide with one value, which has no spread to learn from.

    Raises:
        UsageError: no values, a value that is not finite, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95.")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise UsageError(f"values have shape {array.shape}; at least one number, in one dimension, is accepted.")
    if not np.isfinite(array).all():
        raise UsageError(f"value {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite; remove or mend it first.")
    mean, n = float(array.mean()), array.size
    if n == 1:
        return Interval(mean, -math.inf, math.inf, math.inf, 1)
    error = float(array.std(ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return Interval(mean, mean - reach, mean + reach, error, n)


def proportion_interval(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The exact interval of a share of independent trials (Clopper and Pearson 1934, https://doi.org/10.2307/2331986).

    It covers the true share with at least the confidence given, however small the count.

    Args:
        count: trials with the outcome, from 0 to n.
        n: trials, at least 1.
        confidence: in (0, 1).

    Raises:
        UsageError: a count that is not among the trials, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95.")
    if n < 1 or not 0 <= count <= n:
        raise UsageError(f"count is {count} of {n} trials; a count from 0 to the trials, of at least 1, is accepted.")
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    share = count / n
    return Interval(share, low, high, math.sqrt(share * (1 - share) / n), n)
