"""A class of finitely many rewards is not convex, and there the two programs differ: why convexity matters.

A language model's policies do not form a convex class of rewards either, so theorem 5.6 does not literally cover
it. This module shows by how much the orders of max and min can disagree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from safetyvalve.testbed.solve import objective_for

__all__ = ["FiniteGap", "finite_gap", "two_rewards"]


class FiniteGap(NamedTuple):
    """minimax: min over the class of the best policy's value, which is RPO's. maximin: what RPO stands in for."""

    minimax: float
    maximin: float

    @property
    def gap(self) -> float:
        return self.minimax - self.maximin


def finite_gap(
    rewards: Float[Tensor, "reward prompt action"],
    wins: Float[Tensor, "set prompt action action"],
    ref: Float[Tensor, "set prompt action"],
    base: Float[Tensor, "set prompt action"],
    d0: Float[Tensor, "set prompt"],
    *,
    beta: float,
    eta: float,
) -> FiniteGap:
    """Both orders of the program when the adversary picks from a list of rewards. One set.

    For the maximin the adversary may mix, because the policy only sees the mean: it is the smallest, over
    mixtures, of the best policy's value for the mean reward plus the mean loss on the data.
    """
    count = len(rewards)
    preference = objective_for(wins, ref, beta=beta)
    losses = np.array([float(preference.at(r, second=False).value.sum()) for r in rewards])
    log_ref = ref[0].log()

    def worth(mixture: np.ndarray) -> float:
        r = torch.einsum("k,kxa->xa", torch.as_tensor(mixture), rewards)
        best = beta * torch.logsumexp(log_ref + r / beta, -1) - (base[0] * r).sum(-1)
        return eta * float((d0[0] * best).sum()) + float(mixture @ losses)

    pure = [worth(row) for row in np.eye(count)]
    found = minimize(
        worth,
        np.full(count, 1 / count),
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda m: m.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return FiniteGap(min(pure), min(float(found.fun), *pure))


def two_rewards(beta: float = 0.1, eta: float = 1.0) -> FiniteGap:
    """The smallest example: two actions, one win each way, and an adversary who must favour one of them."""
    half = torch.full((1, 1, 2), 0.5, dtype=torch.float64)
    wins = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]], dtype=torch.float64)
    rewards = torch.eye(2, dtype=torch.float64)[:, None, :]
    return finite_gap(rewards, wins, half, half, torch.ones(1, 1, dtype=torch.float64), beta=beta, eta=eta)
