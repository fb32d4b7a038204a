"""Losses on a comparison: how well the policy's implicit reward explains that the chosen response won.

Inputs are sums of log-probabilities over the response's tokens, in nats. Gradients flow into the policy's;
reference log-probabilities carry none in practice because they are computed without a graph, but nothing
is detached here. Every function returns one loss a pair; the caller reduces.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError

__all__ = ["ImplicitRewards", "bradley_terry_nll", "dpo_loss", "implicit_rewards", "ipo_loss"]


class ImplicitRewards(NamedTuple):
    """Implicit rewards of the two responses of each pair, in nats: ``beta * log(policy / reference)``."""

    chosen: Float[Tensor, "pair"]
    rejected: Float[Tensor, "pair"]

    @property
    def margin(self) -> Float[Tensor, "pair"]:
        return self.chosen - self.rejected


def check_positive(name: str, value: float) -> None:
    """Refuse a coefficient that is not a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value}; it must be a finite number above 0. Try {name}=0.05.")


def _check_pairs(*logps: Float[Tensor, "pair"]) -> None:
    shapes = {tuple(t.shape) for t in logps}
    if len(shapes) != 1 or logps[0].dim() != 1:
        raise UsageError(
            f"log-probabilities have shapes {[tuple(t.shape) for t in logps]}; all must be one vector with an "
            "entry a pair. Sum over the tokens of each response first."
        )


def implicit_rewards(
    policy_chosen_logps: Float[Tensor, "pair"],
    policy_rejected_logps: Float[Tensor, "pair"],
    ref_chosen_logps: Float[Tensor, "pair"],
    ref_rejected_logps: Float[Tensor, "pair"],
    *,
    beta: float,
) -> ImplicitRewards:
    """The reward that a policy implies, up to a constant of the prompt.

    Source: arXiv 2405.16436, eq. (4.5), after arXiv 2305.18290, eq. (5).

    Args:
        policy_chosen_logps: log-probabilities of the chosen responses, summed over tokens, in nats.
        policy_rejected_logps: the same for the rejected responses.
        ref_chosen_logps: the same under the reference policy.
        ref_rejected_logps: the same under the reference policy.
        beta: strength of the KL regularisation, above 0.

    Raises:
        UsageError: beta is not above 0, or the shapes differ.
    """
    check_positive("beta", beta)
    _check_pairs(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return ImplicitRewards(
        beta * (policy_chosen_logps - ref_chosen_logps), beta * (policy_rejected_logps - ref_rejected_logps)
    )


def bradley_terry_nll(margin: Float[Tensor, "*pair"], *, label_smoothing: float = 0.0) -> Float[Tensor, "*pair"]:
    """Negative log-likelihood that the chosen response won, in nats.

    ``-(1 - s) log sigmoid(m) - s log sigmoid(-m)``.

    Source: L_D of arXiv 2405.16436, eq. (3.3); smoothing is that of conservative DPO.

    Args:
        margin: m, the reward of the chosen response less that of the rejected one, in nats of preference.
        label_smoothing: s in [0, 0.5), the assumed share of comparisons recorded the wrong way round.

    Raises:
        UsageError: label_smoothing out of range.
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise UsageError(
            f"label_smoothing is {label_smoothing}; it must be at least 0 and below 0.5, "
            "the share of comparisons that may be recorded the wrong way round."
        )
    # logsigmoid, not log(sigmoid): the latter is -inf below -88 in fp32.
    loss = -F.logsigmoid(margin)
    if label_smoothing:
        loss = (1.0 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-margin)
    return loss


def dpo_loss(
    policy_chosen_logps: Float[Tensor, "pair"],
    policy_rejected_logps: Float[Tensor, "pair"],
    ref_chosen_logps: Float[Tensor, "pair"],
    ref_rejected_logps: Float[Tensor, "pair"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "pair"]:
    """Direct preference optimisation: Bradley-Terry negative log-likelihood of the implicit reward, in nats.

    :func:`bradley_terry_nll` of the margin of the implicit rewards.

    Source: arXiv 2305.18290, eq. (7); it is L_D(beta log pi/pi_ref) of arXiv 2405.16436, eq. (4.8); smoothing
    is known as conservative DPO.

    Args: as :func:`implicit_rewards`; ``label_smoothing`` lies in [0, 0.5).

    Raises:
        UsageError: beta or label_smoothing out of range, or the shapes differ.
    """
    margin = implicit_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    ).margin
    return bradley_terry_nll(margin, label_smoothing=label_smoothing)


def ipo_loss(
    policy_chosen_logps: Float[Tensor, "pair"],
    policy_rejected_logps: Float[Tensor, "pair"],
    ref_chosen_logps: Float[Tensor, "pair"],
    ref_rejected_logps: Float[Tensor, "pair"],
    *,
    beta: float,
) -> Float[Tensor, "pair"]:
    """Identity preference optimisation: ``(h - 1 / (2 beta))^2`` with ``h`` the unscaled log-ratio margin.

    Source: arXiv 2310.12036, eq. (17), with its tau called beta. The sum of token log-probabilities is used, as
    in the paper; some trainers divide by the length.

    Args: as :func:`implicit_rewards`.

    Raises:
        UsageError: beta is not above 0, or the shapes differ.
    """
    check_positive("beta", beta)
    _check_pairs(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    log_ratio_margin = (policy_chosen_logps - ref_chosen_logps) - (policy_rejected_logps - ref_rejected_logps)
    return torch.square(log_ratio_margin - 1.0 / (2.0 * beta))
