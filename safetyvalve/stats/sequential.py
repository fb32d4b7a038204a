"""Win rates that may be looked at after every verdict: e-values and confidence sequences by betting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from safetyvalve.errors import UsageError
from safetyvalve.stats.clusters import Floats, checked_confidence, checked_values

__all__ = ["Sequential", "anytime_interval", "confidence_sequence", "log_capital", "log_capitals", "log_e_value"]

# Fractions of the capital that are bet, equally weighted: spread over the logarithm, so that small differences in
# thousands of verdicts and large ones in dozens both meet a bet of about the right size.
BETS = np.concatenate([np.geomspace(0.004, 0.5, 20), [0.65, 0.8, 0.95]])
HALVINGS = 45


class Sequential(NamedTuple):
    """What may be said after t values, at every t at once."""

    estimate: float
    low: float
    high: float
    log_e: float
    """Natural logarithm of the e-value against a mean of one half: evidence; its reciprocal bounds the p-value."""
    n: int


def anytime_interval(values: Sequence[float] | Floats, *, confidence: float = 0.95) -> Sequential:
    """The confidence sequence after all the values; see :func:`confidence_sequence`, without intersection."""
    x = checked_values(values, low=0, high=1)
    levels, counts = np.unique(x, return_counts=True)
    low, high = _bounds(levels, counts[None].astype(np.float64), confidence)
    return Sequential(float(x.mean()), float(low[0]), float(high[0]), log_e_value(x), x.size)


def confidence_sequence(
    values: Sequence[float] | Floats, *, confidence: float = 0.95, at: Sequence[int] | None = None
) -> list[Sequential]:
    """Intervals that hold the mean at all times at once with the confidence given, however one stops.

    Capital that bets on the mean being above m, K+(m) = mean over c of prod(1 + c (x_i / m - 1)), and below, K-(m), are
    martingales from 1 if every value has the mean m given the past (Waudby-Smith and Ramdas 2023,
    https://arxiv.org/abs/2010.09686). By Ville's inequality each ever reaches 2 / (1 - confidence) with chance at most
    (1 - confidence) / 2. K+ falls and K- rises in m, so what neither refutes is an interval. Bets are mixed, not
    predicted, so the order of the values does not matter.

    Values must come in an order that does not depend on them, such as prompts as they were drawn; average the verdicts
    on a prompt first, as they are not independent.

    Args:
        values: [n] in [0, 1]; scores of prompts.
        confidence: in (0, 1).
        at: sizes at which to report; every size if not given. Time grows with len(at) times the distinct values.

    Returns:
        One entry a size, each the intersection of the intervals at the sizes reported up to it. An interval that has
        become empty (``low`` above ``high``) says that the values do not have one mean.

    Raises:
        UsageError: values outside [0, 1], sizes outside 1..n or not rising.
    """
    x = checked_values(values, low=0, high=1)
    sizes = np.arange(1, x.size + 1) if at is None else np.asarray(at, dtype=np.intp)
    if not sizes.size or sizes[0] < 1 or sizes[-1] > x.size or (np.diff(sizes) <= 0).any():
        raise UsageError(f"at is {list(sizes[:5])}...; rising sizes from 1 to {x.size} are accepted.")
    levels, codes = np.unique(x, return_inverse=True)
    seen = np.zeros((sizes.size, levels.size))
    previous, running = 0, np.zeros(levels.size)
    for row, size in enumerate(sizes):
        running = running + np.bincount(codes[previous:size], minlength=levels.size)
        seen[row], previous = running, size
    low, high = _bounds(levels, seen, confidence)
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high)
    log_e = _log_e(levels, seen, 0.5)
    means = seen @ levels / sizes
    columns = (means.tolist(), low.tolist(), high.tolist(), log_e.tolist(), sizes.tolist())
    return [Sequential(*row) for row in zip(*columns, strict=True)]


def log_e_value(values: Sequence[float] | Floats, *, null: float = 0.5, side: str = "both") -> float:
    """Natural logarithm of the e-value against "the mean is ``null``".

    Args:
        values: [n] in [0, 1].
        null: in (0, 1).
        side: ``both``; ``above`` tests "at most null" and grows when the mean is above it; ``below`` the reverse.

    Returns:
        log e. Under the null E[e] is at most 1 at any stopping time: e of 20 is evidence at the 5% level.
    """
    if not 0 < null < 1:
        raise UsageError(f"null is {null}; a mean between 0 and 1 is accepted, such as 0.5.")
    if side not in ("both", "above", "below"):
        raise UsageError(f"side is {side!r}; both, above and below are accepted.")
    levels, counts = np.unique(checked_values(values, low=0, high=1), return_counts=True)
    return float(_log_e(levels, counts[None].astype(np.float64), null, side)[0])


def _log_e(levels: Floats, counts: Floats, null: float, side: str = "both") -> Floats:
    at = np.full(len(counts), null)
    up, down = log_capitals(levels, counts, at)
    log_e: Floats = {"above": up, "below": down}[side] if side != "both" else np.logaddexp(up, down) - np.log(2)
    return log_e


def log_capitals(levels: Floats, counts: Floats, m: Floats) -> tuple[Floats, Floats]:
    """log of the capitals that bet on a mean above and below ``m``, [T] each.

    Args:
        levels: [V] distinct values.
        counts: [T, V] how often each was seen by each time.
        m: [T] in (0, 1).
    """
    return log_capital(levels, counts, m), log_capital(1 - levels, counts, 1 - m)


def log_capital(levels: Floats, counts: Floats, m: Floats, bets: Floats | None = None) -> Floats:
    """log of the capital that bets on a mean above m, [T]; levels [V], counts [T, V], m [T] in (0, 1)."""
    bets = BETS if bets is None else bets
    total = np.zeros((len(m), bets.size))
    if len(m) > 1 and (m == m[0]).all():
        total = counts @ np.log1p(bets * (levels[:, None] / m[0] - 1))
    elif len(levels) > len(m):
        for t, mean in enumerate(m):
            total[t] = np.log1p(bets[:, None] * (levels / mean - 1)) @ counts[t]
    else:
        for v, level in enumerate(levels):
            total += counts[:, v, None] * np.log1p(bets * (level / m[:, None] - 1))
    most = total.max(axis=1)
    return np.asarray(most + np.log(np.exp(total - most[:, None]).mean(axis=1)))


def _bounds(levels: Floats, counts: Floats, confidence: float) -> tuple[Floats, Floats]:
    threshold = np.log(2 / (1 - checked_confidence(confidence)))
    return (
        _lower(levels, counts, threshold),
        1 - _lower(1 - levels, counts, threshold),
    )


def _lower(levels: Floats, counts: Floats, threshold: float) -> Floats:
    """The smallest m that is not refuted, by halving; the end that is refuted is returned, which errs outward."""
    refuted = np.zeros(len(counts))
    open_ = np.ones(len(counts))
    for _ in range(HALVINGS):
        middle = (refuted + open_) / 2
        beyond = log_capital(levels, counts, middle) >= threshold
        refuted, open_ = np.where(beyond, middle, refuted), np.where(beyond, open_, middle)
    return refuted
