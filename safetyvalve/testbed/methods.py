"""The methods that are compared: what each makes of a batch of data sets, at each beta.

A method is a function ``(data, betas) -> list of Learnt``, one a beta, in the order given. Betas are best given
from large to small: each solution is where the next one starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from safetyvalve.objectives import dpo_loss, ipo_loss
from safetyvalve.testbed.chipo import chipo_loss
from safetyvalve.testbed.derivatives import PairLoss
from safetyvalve.testbed.links import Link, kl_link, mixed_chi2_link
from safetyvalve.testbed.problem import Problem, chosen_baseline
from safetyvalve.testbed.solve import solve

__all__ = ["Data", "Learnt", "Method", "ensemble_min", "preference_only", "rpo", "standard_methods"]

MEMBERS = 10
"""Size of the pessimistic ensemble."""


class Data(NamedTuple):
    """A batch of data sets and what a method may know besides: not the true reward.

    bounds: the box that rewards are known to lie in.
    features: of a linear class; None is tabular.
    """

    d0: Float[Tensor, "set prompt"]
    ref: Float[Tensor, "set prompt action"]
    wins: Float[Tensor, "set prompt action action"]
    bounds: tuple[float, float]
    features: Tensor | None = None

    @classmethod
    def of(cls, problem: Problem, wins: Tensor, bounds: tuple[float, float], features: Tensor | None = None) -> Data:
        """The part of a problem that methods see."""
        return cls(problem.d0, problem.ref, wins, bounds, features)


class Learnt(NamedTuple):
    """The policies at one beta, as log-probabilities, and on which sets the solver converged."""

    log_policy: Float[Tensor, "set prompt action"]
    converged: Tensor


Method = Callable[[Data, Sequence[float]], list[Learnt]]


def _path(data: Data, betas: Sequence[float], **settings: Any) -> list[Learnt]:
    """Solve at each beta, starting from the solution before."""
    learnt, start = [], None
    for beta in betas:
        found = solve(
            data.wins, data.ref, bounds=data.bounds, start=start, beta=beta, features=data.features, **settings
        )
        start = found.parameters
        learnt.append(Learnt(found.log_policy, found.converged))
    return learnt


def preference_only(
    data: Data, betas: Sequence[float], *, loss: PairLoss = dpo_loss, link: Link = kl_link
) -> list[Learnt]:
    """A loss on comparisons alone: DPO, IPO, chi-PO, or one of yours.

    DPO over rewards in a box is maximum-likelihood RLHF: the reward is fitted, then the policy is best for it.
    """
    return _path(data, betas, loss=loss, link=link)


def rpo(
    data: Data,
    betas: Sequence[float],
    *,
    eta: float,
    base: Float[Tensor, "set prompt action"] | None = None,
    label_smoothing: float = 0.0,
) -> list[Learnt]:
    """RPO, arXiv 2405.16436, algorithm 2. The baseline is by default the law of the chosen responses."""
    base = chosen_baseline(data.wins, data.ref) if base is None else base
    loss = partial(dpo_loss, label_smoothing=label_smoothing) if label_smoothing else dpo_loss
    return _path(data, betas, d0=data.d0, base=base, eta=eta, loss=loss)


def ensemble_min(
    data: Data, betas: Sequence[float], *, rng: np.random.Generator, members: int = MEMBERS
) -> list[Learnt]:
    """The best policy for the smallest of ``members`` rewards, each fitted to a bootstrap of the comparisons.

    A reward is only known up to a constant of the prompt, so each member is first shifted to be worth zero under
    the chosen responses; without that, the minimum would depend on an arbitrary choice.
    """
    total = data.wins.sum((1, 2, 3), keepdim=True)
    shape = tuple(data.wins.shape)
    law = (data.wins / total).reshape(shape[0], -1).numpy()
    base = chosen_baseline(data.wins, data.ref)
    lowest = torch.full_like(data.ref, torch.inf)
    converged = torch.ones(shape[0], dtype=torch.bool)
    start = None
    for _ in range(members):
        again = rng.multinomial(total.flatten().numpy().astype(np.int64), law / law.sum(-1, keepdims=True))
        wins = torch.as_tensor(again.reshape(shape), dtype=torch.float64)
        found = solve(wins, data.ref, bounds=data.bounds, start=start, beta=1.0, features=data.features)
        lowest = torch.minimum(lowest, found.reward - (base * found.reward).sum(-1, keepdim=True))
        converged &= found.converged
    log_ref = data.ref.log().flatten(0, 1)
    policies = [kl_link(lowest.flatten(0, 1), log_ref, beta).log_policy.view_as(data.ref) for beta in betas]
    return [Learnt(policy, converged) for policy in policies]


def standard_methods(
    *,
    eta: dict[str, float],
    uncovered: Float[Tensor, "set prompt action"],
    ref: Float[Tensor, "set prompt action"],
    max_reward: float,
    rng: np.random.Generator,
) -> dict[str, Method]:
    """The methods of the overoptimization experiment by the name they are reported under.

    Args:
        eta: of each RPO baseline: ``chosen``, ``chosen, small beta``, ``ref`` and ``uncovered``.
        uncovered: a baseline that the data hardly cover.
        ref: the reference, which is a baseline too.
        max_reward: the clip of chi-PO.
        rng: draws the ensemble's bootstraps.
    """
    return {
        "DPO": preference_only,
        "IPO": partial(preference_only, loss=ipo_loss),
        "chi-PO (experimental)": partial(
            preference_only, loss=partial(chipo_loss, max_reward=max_reward), link=mixed_chi2_link
        ),
        f"ensemble min ({MEMBERS})": partial(ensemble_min, rng=rng),
        "RPO, base chosen": partial(rpo, eta=eta["chosen"]),
        "RPO, base chosen, eta for small beta": partial(rpo, eta=eta["chosen, small beta"]),
        "RPO, base ref": partial(rpo, eta=eta["ref"], base=ref),
        "RPO, base uncovered": partial(rpo, eta=eta["uncovered"], base=uncovered),
    }
