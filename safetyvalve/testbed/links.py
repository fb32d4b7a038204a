"""Links: the policy that is best for a reward, under the regulariser that the method uses.

A link writes ``log policy = log ref + h(u)`` with ``u = (r - lambda) / beta``, and ``lambda`` a constant of the
prompt that makes the policy sum to 1. Its first two derivatives are all the solver needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.special import wrightomega
from torch import Tensor

from safetyvalve.errors import SafetyValveError
from safetyvalve.objectives.preference import check_positive

__all__ = ["Link", "Linked", "kl_link", "mixed_chi2_link"]


class Linked(NamedTuple):
    """A policy and how it moves with ``u``.

    log_policy: log-probabilities, in nats; minus infinity where the reference has no mass.
    slope: h'(u).
    curvature: h''(u).
    """

    log_policy: Float[Tensor, "block action"]
    slope: Float[Tensor, "block action"]
    curvature: Float[Tensor, "block action"]


Link = Callable[[Tensor, Tensor, float], Linked]
"""``(reward, log_ref, beta) -> Linked``, each a tensor (block, action)."""


def kl_link(reward: Float[Tensor, "block action"], log_ref: Float[Tensor, "block action"], beta: float) -> Linked:
    """The best policy under a KL penalty: ``pi`` proportional to ``ref exp(r / beta)``.

    Source: arXiv 2405.16436, lemma 4.1. Computed in log space, so r = 50 at beta = 1e-3 is harmless.

    Raises:
        UsageError: beta is not above 0.
    """
    check_positive("beta", beta)
    log_policy = torch.log_softmax(log_ref + reward / beta, dim=-1)
    return Linked(log_policy, torch.ones_like(reward), torch.zeros_like(reward))


def mixed_chi2_link(
    reward: Float[Tensor, "block action"], log_ref: Float[Tensor, "block action"], beta: float
) -> Linked:
    """The best policy under a KL plus chi-squared penalty: ``z + log z = u`` for the ratio ``z = pi / ref``.

    Source: arXiv 2407.13399, eq. (9) and proposition 4.2 (chi-PO). Experimental.

    Raises:
        UsageError: beta is not above 0.
    """
    check_positive("beta", beta)
    scaled, ref = reward / beta, log_ref.exp()
    # Where one action alone would carry all mass, the total is at least 1: Newton descends from there without
    # overshooting, because the total is convex and decreasing in the constant.
    level = (scaled - 1 / ref + log_ref).amax(-1, keepdim=True)
    for _ in range(200):
        ratio = _omega(scaled - level)
        excess = (ref * ratio).sum(-1, keepdim=True) - 1
        if bool((excess.abs() <= 1e-14).all()):
            break
        step = excess / (ref * ratio / (1 + ratio)).sum(-1, keepdim=True)
        moved = level + step
        if bool((moved == level).all()):
            break
        level = moved
    else:
        if bool((excess.abs() > 1e-9).any()):
            raise SafetyValveError(
                f"the chi-squared policy did not normalise: its mass is off by {excess.abs().max():.2g} "
                f"at beta {beta:g}. Use a larger beta or a smaller range of rewards."
            )
    u = scaled - level
    ratio = _omega(u)
    # log z = u - z exactly; for large u that cancels, and the logarithm does not.
    log_ratio = torch.where(u > 1, ratio.clamp_min(1e-300).log(), u - ratio)
    slope = 1 / (1 + ratio)
    return Linked(log_ref + log_ratio, slope, -ratio * slope**3)


def _omega(u: Tensor) -> Tensor:
    """The solution z of ``z + log z = u``."""
    return torch.as_tensor(wrightomega(u.numpy()))
