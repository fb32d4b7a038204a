"""Bradley-Terry rewards that are linear in given features: the cheapest learner of preferences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import Codes, Floats

__all__ = ["RIDGES", "choose_ridge", "fit_linear_reward", "preference_loss"]

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Tried on differences of mean square length about 1, where 0.1 leaves little but the mean direction."""


def fit_linear_reward(differences: Floats, *, ridge: float, start: Floats | None = None) -> Floats:
    """Minimiser w of mean log(1 + exp(-w . d)) + ridge |w|^2 / 2.

    Args:
        differences: [n, p], features of the preferred response less those of the other.
        ridge: above 0, so that there is one minimum, finite, whatever the data.
        start: where the search begins; changes the time only.

    Returns:
        [p]; the reward of a response is ``features @ w``, in log-odds.
    """
    if not ridge > 0:
        raise UsageError(f"ridge is {ridge}; a number above 0 is accepted, such as 0.01.")

    def loss(w: Floats) -> tuple[float, Floats]:
        margins = differences @ w
        value = preference_loss(margins).mean() + ridge * w @ w / 2
        return float(value), ridge * w - differences.T @ expit(-margins) / len(margins)

    begin = np.zeros(differences.shape[1]) if start is None else start
    return np.asarray(minimize(loss, begin, jac=True, method="L-BFGS-B").x)


def preference_loss(margins: Floats) -> Floats:
    """[n] negative log-likelihood log(1 + exp(-margin)) of comparisons that went as the margin's sign says, in nats."""
    return np.asarray(np.logaddexp(0, -margins))


def choose_ridge(differences: Floats, groups: Codes, *, folds: int = 3, ridges: Sequence[float] = RIDGES) -> float:
    """The ridge with the least log loss in cross-validation that keeps groups whole.

    Args:
        differences: [n, p].
        groups: [n] integers; comparisons of a group, such as a conversation, are never divided.
        folds: at least 2; with fewer groups than that, as many as there are groups.

    Raises:
        DataError: a single group.
    """
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError("there is only one conversation; at least two are needed to choose a ridge. Add data.")
    fold = np.random.default_rng(0).permutation(len(names))[codes] % min(folds, len(names))
    losses = np.zeros(len(ridges))
    order = np.argsort(ridges)[::-1]  # from the smoothest on, each solution the start of the next
    for out in range(int(fold.max()) + 1):
        known, unseen = differences[fold != out], differences[fold == out]
        w: Floats | None = None
        for i in order:
            w = fit_linear_reward(known, ridge=ridges[i], start=w)
            losses[i] += preference_loss(unseen @ w).sum()
    return float(ridges[int(np.argmin(losses))])
