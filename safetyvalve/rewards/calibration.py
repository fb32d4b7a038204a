"""Does a reward model win as often as it says? Reliability of the Bradley-Terry probability of its preferred answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from safetyvalve.errors import UsageError
from safetyvalve.rewards.scores import Floats

__all__ = ["Bin", "Calibration", "calibration"]

BINS = 10
DRAWS = 400


class Bin(NamedTuple):
    """Comparisons whose preferred answer is given a probability between ``low`` and ``high``."""

    low: float
    high: float
    n: int
    said: float
    """Mean probability that the preferred answer wins."""
    won: float
    """Share in which people preferred it too."""


class Calibration(NamedTuple):
    """How the probabilities of a model stand to what people chose."""

    bins: list[Bin]
    """Those with comparisons."""
    ece: float
    """Expected calibration error: ``sum_b n_b / n |won_b - said_b|``."""
    ece_if_calibrated: float
    """What that would be on average if the probabilities were true: it is above 0 with few comparisons."""
    slope: float
    """b that fits ``P(won) = sigmoid(b * margin)`` best: 1 is calibrated, below 1 too sure of itself."""
    log_loss: float
    """Mean of ``-log sigmoid(margin)``, in nats; log 2 = 0.693 knows nothing."""


def calibration(margins: Floats, *, bins: int = BINS, seed: int = 0) -> Calibration:
    """From the margins of all comparisons.

    Args:
        margins: [comparison], reward of what people chose less that of what they did not; finite, not empty.
        bins: of equal width over [0.5, 1].
        seed: of the simulation behind ``ece_if_calibrated``.

    Raises:
        UsageError: no margins, or one that is not finite.
    """
    array = np.asarray(margins, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise UsageError("margins must be at least one finite number, in one dimension. Leave unscored ones out.")
    said = expit(np.abs(array))
    won = np.where(array > 0, 1.0, np.where(array < 0, 0.0, 0.5))
    edges = np.linspace(0.5, 1.0, bins + 1)
    place = np.clip(np.digitize(said, edges) - 1, 0, bins - 1)
    rows = [
        Bin(float(edges[b]), float(edges[b + 1]), int(mine.sum()), float(said[mine].mean()), float(won[mine].mean()))
        for b in range(bins)
        if (mine := place == b).any()
    ]
    generator = np.random.default_rng(seed)
    drawn = [_ece(said, (generator.random(said.shape) < said).astype(float), place, bins) for _ in range(DRAWS)]
    slope = minimize_scalar(lambda b: -log_expit(b * array).mean(), bounds=(-20, 20), method="bounded")
    return Calibration(
        rows, _ece(said, won, place, bins), float(np.mean(drawn)), float(slope.x), float(-log_expit(array).mean())
    )


def _ece(said: Floats, won: Floats, place: np.ndarray, bins: int) -> float:
    gaps = np.bincount(place, weights=won - said, minlength=bins)
    return float(np.abs(gaps).sum() / len(said))
