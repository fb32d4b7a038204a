"""The value, gradient and Hessian of an objective over rewards, from the shipped per-pair losses.

The losses are called as they are, on every comparison of every data set at once, and differentiated twice by
autograd in their two log-probabilities. The rest of the chain, from rewards to log-probabilities, is closed
form: with ``P = I - 1 q^T``,

    gradient = P^T v / beta,            v = slope * dL/dlogp
    Hessian  = P^T (diag(slope) L'' diag(slope) + diag(k)) P / beta^2,
    k = curvature * dL/dlogp - sum(v) t' / sum(t),    t = pi slope,  t' = pi (slope^2 + curvature),  q = t / sum(t)

For the KL link the slope is 1, q is the policy, and k = - pi sum(dL/dlogp).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives import Reduction, sft_loss
from safetyvalve.testbed.links import Link, kl_link

__all__ = ["Comparisons", "Objective", "PairLoss", "Terms", "comparisons"]

PairLoss = Callable[..., Tensor]
"""``(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta) -> loss a pair``."""


class Comparisons(NamedTuple):
    """The distinct comparisons of many prompts, flat.

    block: which row of the reward table, counting prompts of one data set after the other.
    winner, loser: actions.
    weight: count divided by the number of comparisons in the data set; a data set's weights sum to 1.
    """

    block: Int[Tensor, "row"]
    winner: Int[Tensor, "row"]
    loser: Int[Tensor, "row"]
    weight: Float[Tensor, "row"]


def comparisons(wins: Float[Tensor, "set prompt action action"]) -> Comparisons:
    """Flatten counts of wins. A data set without comparisons has no rows."""
    prompts = wins.shape[1]
    total = wins.sum((1, 2, 3)).clamp_min(1)
    where = wins.nonzero(as_tuple=True)
    return Comparisons(where[0] * prompts + where[1], where[2], where[3], wins[where] / total[where[0]])


class Terms(NamedTuple):
    """An objective at a point, one entry a group (a prompt if tabular, a data set if linear)."""

    value: Float[Tensor, "group"]
    gradient: Float[Tensor, "group parameter"]
    hessian: Float[Tensor, "group parameter parameter"] | None


@dataclass(frozen=True)
class Objective:
    """``L_pref(beta log pi/ref) + sum of pressure * sft`` as a function of the reward.

    rows: the comparisons.
    log_ref: (block, action), in nats.
    pressure: (block, action), ``eta * beta * d0 * base``; zeros for DPO and its relatives.
    loss: a function of :mod:`safetyvalve.objectives` or of the same signature.
    beta, link: the policy of a reward.
    features: (group, prompt, action, parameter) of a linear class ``r = features @ w``; None is tabular.
    lengths, reduction, mean_length: as :func:`safetyvalve.objectives.sft_loss`; lengths are (block, action).
    """

    rows: Comparisons
    log_ref: Tensor
    pressure: Tensor
    loss: PairLoss
    beta: float
    link: Link = kl_link
    features: Tensor | None = None
    lengths: Tensor | None = None
    reduction: Reduction = "sum"
    mean_length: float | None = None

    def rewards(self, parameters: Tensor) -> Tensor:
        """Rewards (block, action) of the parameters (group, parameter)."""
        if self.features is None:
            return parameters
        return torch.einsum("gxap,gp->gxa", self.features, parameters).flatten(0, 1)

    def at(self, parameters: Tensor, *, second: bool = True) -> Terms:
        """Value, gradient and, if ``second``, Hessian, one of each a group."""
        linked = self.link(self.rewards(parameters), self.log_ref, self.beta)
        value, pull, bend = self._preference(linked.log_policy, second)
        sft_value, sft_pull = self._sft(linked.log_policy)
        value, pull = value + sft_value, pull + sft_pull
        policy = linked.log_policy.exp()
        t = policy * linked.slope
        q = t / t.sum(-1, keepdim=True)
        v = linked.slope * pull
        gradient = (v - q * v.sum(-1, keepdim=True)) / self.beta
        hessian = None
        if bend is not None:
            t_slope = policy * (linked.slope**2 + linked.curvature)
            k = linked.curvature * pull - v.sum(-1, keepdim=True) * t_slope / t.sum(-1, keepdim=True)
            inner = linked.slope[:, :, None] * bend * linked.slope[:, None, :] + torch.diag_embed(k)
            hessian = _project(inner, q) / self.beta**2
        return self._grouped(Terms(value, gradient, hessian))

    def select(self, groups: Tensor) -> Objective:
        """The same objective on some groups only, given as a mask."""
        prompts = 1 if self.features is None else self.features.shape[1]
        blocks = groups.repeat_interleave(prompts)
        kept = blocks[self.rows.block]
        new_index = blocks.cumsum(0) - 1
        rows = Comparisons(new_index[self.rows.block[kept]], *(t[kept] for t in self.rows[1:]))
        return replace(
            self,
            rows=rows,
            log_ref=self.log_ref[blocks],
            pressure=self.pressure[blocks],
            features=None if self.features is None else self.features[groups],
            lengths=None if self.lengths is None else self.lengths[blocks],
        )

    def _preference(self, log_policy: Tensor, second: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """The preference loss a block, and its derivatives in the log-probabilities."""
        block, winner, loser, weight = self.rows
        actions = log_policy.shape[-1]
        chosen = log_policy[block, winner].requires_grad_()
        rejected = log_policy[block, loser].requires_grad_()
        losses = self.loss(chosen, rejected, self.log_ref[block, winner], self.log_ref[block, loser], beta=self.beta)
        check_losses(losses, chosen)
        first = _gradients(losses, (chosen, rejected), create_graph=second)
        value = log_policy.new_zeros(log_policy.shape[0]).index_add(0, block, weight * losses.detach())
        pull = log_policy.new_zeros(log_policy.numel())
        for grad, action in zip(first, (winner, loser), strict=True):
            pull.index_add_(0, block * actions + action, weight * grad.detach())
        bend = None
        if second:
            bend = log_policy.new_zeros(log_policy.numel() * actions)
            for grad, left in zip(first, (winner, loser), strict=True):
                for again, right in zip(_gradients(grad, (chosen, rejected)), (winner, loser), strict=True):
                    bend.index_add_(0, (block * actions + left) * actions + right, weight * again)
            bend = bend.view(-1, actions, actions)
        return value, pull.view_as(log_policy), bend

    def _sft(self, log_policy: Tensor) -> tuple[Tensor, Tensor]:
        """The SFT term a block, and its gradient in the log-probabilities (it is linear in them)."""
        value, pull = log_policy.new_zeros(log_policy.shape[0]), torch.zeros_like(log_policy)
        where = self.pressure.nonzero(as_tuple=True)
        if len(where[0]) == 0:
            return value, pull
        logps = log_policy[where].requires_grad_()
        lengths = None if self.lengths is None else self.lengths[where]
        losses = self.pressure[where] * sft_loss(logps, lengths, reduction=self.reduction, mean_length=self.mean_length)
        pull[where] = _gradients(losses, (logps,))[0]
        return value.index_add(0, where[0], losses.detach()), pull

    def _grouped(self, terms: Terms) -> Terms:
        if self.features is None:
            return terms
        groups, prompts = self.features.shape[:2]
        gradient = terms.gradient.view(groups, prompts, -1)
        hessian = terms.hessian
        if hessian is not None:
            hessian = hessian.view(groups, prompts, *hessian.shape[1:])
            hessian = torch.einsum("gxap,gxab,gxbq->gpq", self.features, hessian, self.features)
        return Terms(
            terms.value.view(groups, prompts).sum(-1),
            torch.einsum("gxap,gxa->gp", self.features, gradient),
            hessian,
        )


def check_losses(losses: Tensor, chosen: Tensor) -> None:
    """Refuse an objective that does not return one finite, differentiable loss a pair."""
    if losses.shape != chosen.shape:
        raise UsageError(
            f"the objective returned shape {tuple(losses.shape)} for {chosen.shape[0]} pairs; "
            "it must return one loss a pair. Leave the mean to the caller."
        )
    if not losses.requires_grad and losses.numel():
        raise UsageError("the objective's losses carry no gradient; build them from the log-probabilities.")
    if not bool(torch.isfinite(losses).all()):
        raise UsageError("the objective returned a loss that is not finite; work in log space, as dpo_loss does.")


def _gradients(outputs: Tensor, inputs: tuple[Tensor, ...], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Per-entry derivatives; an input that the output does not depend on has derivative zero."""
    if not outputs.requires_grad:
        return tuple(torch.zeros_like(t) for t in inputs)
    found: Sequence[Tensor | None] = torch.autograd.grad(
        outputs.sum(), inputs, create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, inputs, strict=True))


def _project(matrix: Tensor, q: Tensor) -> Tensor:
    """``P^T matrix P`` with ``P = I - 1 q^T``, one a block, without building P."""
    rows, columns = matrix.sum(-1), matrix.sum(-2)
    total = rows.sum(-1)[:, None, None]
    return (
        matrix
        - q[:, :, None] * columns[:, None, :]
        - rows[:, :, None] * q[:, None, :]
        + total * q[:, :, None] * q[:, None, :]
    )
