"""RPO solved exactly: the minimum over rewards of the shipped losses, and whether there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives import Reduction, dpo_loss
from safetyvalve.objectives.preference import check_positive
from safetyvalve.objectives.regularizers import check_eta
from safetyvalve.testbed.derivatives import Objective, PairLoss, comparisons
from safetyvalve.testbed.links import Link, kl_link
from safetyvalve.testbed.newton import minimize
from safetyvalve.testbed.problem import as_policy

__all__ = ["Solution", "check_bounded", "objective_for", "solve"]


STIFF = 0.02
"""Below this ratio of beta to the width of the box the solver starts from a larger beta."""


class Solution(NamedTuple):
    """What a method learnt from each data set.

    parameters: the reward itself (set, prompt, action) if tabular, the weights (set, parameter) if linear.
    reward, log_policy: (set, prompt, action).
    value: the objective, SFT term included, in nats.
    converged: whether the solver vouches for it.
    """

    parameters: Tensor
    reward: Float[Tensor, "set prompt action"]
    log_policy: Float[Tensor, "set prompt action"]
    value: Float[Tensor, "set"]
    converged: Bool[Tensor, "set"]

    @property
    def policy(self) -> Tensor:
        return self.log_policy.exp()


def objective_for(
    wins: Float[Tensor, "set prompt action action"],
    ref: Float[Tensor, "set prompt action"],
    *,
    beta: float,
    eta: float = 0.0,
    d0: Float[Tensor, "set prompt"] | None = None,
    base: Float[Tensor, "set prompt action"] | None = None,
    loss: PairLoss = dpo_loss,
    link: Link = kl_link,
    features: Float[Tensor, "set prompt action parameter"] | None = None,
    lengths: Float[Tensor, "set prompt action"] | None = None,
    reduction: Reduction = "sum",
    mean_length: float | None = None,
) -> Objective:
    """``L_pref + eta * beta * E_{d0, base}[sft]`` over a batch of data sets.

    Source: arXiv 2405.16436, eq. (4.8). Arguments as :func:`solve`.

    Raises:
        UsageError: as :func:`solve`.
    """
    check_positive("beta", beta)
    check_eta(eta)
    as_policy(ref, "the reference")
    pressure = torch.zeros_like(ref)
    if eta > 0:
        if d0 is None or base is None:
            raise UsageError(f"eta is {eta:g} but the prompts to serve or the baseline are missing; pass d0 and base.")
        as_policy(base, "the baseline"), as_policy(d0, "the law of the prompts to serve")
        _check_support(base, ref, "the baseline has mass")
        pressure = eta * beta * d0[..., None] * base
    _check_support(wins.sum(-1) + wins.sum(-2), ref, "the data compare")
    return Objective(
        rows=comparisons(wins),
        log_ref=ref.log().flatten(0, 1),
        pressure=pressure.flatten(0, 1),
        loss=loss,
        beta=beta,
        link=link,
        features=features,
        lengths=None if lengths is None else lengths.flatten(0, 1),
        reduction=reduction,
        mean_length=mean_length,
    )


def solve(
    wins: Float[Tensor, "set prompt action action"],
    ref: Float[Tensor, "set prompt action"],
    *,
    bounds: tuple[float, float] | None,
    start: Tensor | None = None,
    tolerance: float = 1e-11,
    **settings: Any,
) -> Solution:
    """Minimise an objective over rewards, exactly, on every data set of a batch.

    Args:
        wins: how often a beat b.
        ref: reference policy.
        bounds: the box that the reward (tabular) or each weight (linear) lies in; None is unconstrained.
        start: where to start, by default the middle of the box: what the data say nothing about stays there, so
            under DPO such prompts keep the reference.
        settings: ``beta, eta, d0, base, loss, link, features, lengths, reduction, mean_length``, as
            :func:`objective_for`.

    Raises:
        UsageError: beta <= 0, eta < 0, an empty box, a baseline or a comparison where the reference has no mass,
            or an unconstrained problem without a minimum.
    """
    objective = objective_for(wins, ref, **settings)
    lower, upper = check_bounds(bounds)
    if bounds is None:
        if objective.features is not None:
            raise UsageError("a linear class was given without bounds; its weights need a box. Pass bounds=(-5, 5).")
        check_bounded(wins, objective.pressure.view_as(ref), ref)
    shape = ref.shape if objective.features is None else (ref.shape[0], objective.features.shape[-1])
    if start is None:
        start = _start(wins, ref, shape, bounds, settings)
    flat = start.reshape(-1, shape[-1])
    found = minimize(objective, flat, lower=lower, upper=upper, tolerance=tolerance)
    reward = objective.rewards(found.parameters)
    log_policy = objective.link(reward, objective.log_ref, objective.beta).log_policy
    return Solution(
        found.parameters.view(shape),
        reward.view_as(ref),
        log_policy.view_as(ref),
        found.value.view(ref.shape[0], -1).sum(-1),
        found.converged.view(ref.shape[0], -1).all(-1),
    )


def _start(
    wins: Tensor, ref: Tensor, shape: Sequence[int], bounds: tuple[float, float] | None, settings: dict[str, Any]
) -> Tensor:
    """The middle of the box; at a small beta, the solution at a larger one, because the problem is stiff there."""
    middle, width = (0.0, 4.0) if bounds is None else (sum(bounds) / 2, bounds[1] - bounds[0])
    if settings["beta"] >= STIFF * width or not settings.get("eta"):
        return torch.full(tuple(shape), middle, dtype=torch.float64)
    easier = settings | {"beta": 4 * settings["beta"]}
    return solve(wins, ref, bounds=bounds, tolerance=1e-7, **easier).parameters


def check_bounds(bounds: tuple[float, float] | None) -> tuple[float, float]:
    """The two bounds, infinite if there are none.

    Raises:
        UsageError: the box is empty or not finite, so that the program has no feasible reward.
    """
    if bounds is None:
        return -math.inf, math.inf
    lower, upper = bounds
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise UsageError(
            f"the box on the reward is [{lower:g}, {upper:g}]; no reward lies in it, the program is infeasible. "
            "The lower end must be finite and below the upper one, such as (0, 4)."
        )
    return lower, upper


def check_bounded(
    wins: Float[Tensor, "set prompt action action"],
    pressure: Float[Tensor, "set prompt action"],
    ref: Float[Tensor, "set prompt action"],
) -> None:
    """Refuse an unconstrained problem whose reward runs off to infinity.

    With pressure from a baseline the minimum exists exactly if every action is in the baseline or beats, directly
    or through a chain of wins, one that is: any other action's reward can fall for ever without raising the
    objective. Without pressure (DPO) it exists if, of actions that are compared, each beats each through a chain.

    Raises:
        UsageError: it does not exist; says where, and to use a box on r.
    """
    for s, x in np.ndindex(*wins.shape[:2]):
        won, allowed = wins[s, x].numpy() > 0, ref[s, x].numpy() > 0
        backed = pressure[s, x].numpy() > 0
        if backed.any():
            missing = allowed & ~_reaches(won, backed)
        else:
            weak = connected_components(won, connection="weak")[1]
            strong = connected_components(won, directed=True, connection="strong")[1]
            split = {w for w in set(weak.tolist()) if len(set(strong[weak == w].tolist())) > 1}
            missing = np.isin(weak, list(split))
        if missing.any():
            raise UsageError(
                f"the reward is unbounded: data set {s}, prompt {x}, action {int(np.flatnonzero(missing)[0])} is "
                "outside the baseline and never beats an action inside it, so its reward runs to minus infinity. "
                "Use a box on r, such as bounds=(0, 4)."
                if backed.any()
                else f"the reward is unbounded: data set {s}, prompt {x}, action {int(np.flatnonzero(missing)[0])} "
                "has only won or only lost against some others, so without a baseline the margin runs to "
                "infinity. Use a box on r, such as bounds=(0, 4)."
            )


def _reaches(won: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Actions inside, or that beat one through a chain: the closure of ``inside`` under winning against it."""
    while True:
        grown = inside | won[:, inside].any(-1)
        if (grown == inside).all():
            return grown
        inside = grown


def _check_support(mass: Tensor, ref: Tensor, what: str) -> None:
    missing = ((mass > 0) & (ref <= 0)).nonzero()
    if len(missing):
        s, x, a = missing[0].tolist()
        raise UsageError(
            f"{what} on data set {s}, prompt {x}, action {a}, where the reference has none; the reference must "
            "cover it, because no policy here can reach what it excludes. Give it mass, or remove the action."
        )
