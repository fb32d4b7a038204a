"""chi-PO, an objective that is tried here before it may ship. Experimental: name and signature may change."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from safetyvalve.objectives.preference import check_positive, implicit_rewards

__all__ = ["chipo_loss"]

# exp(300) is finite in float64 and its gradient times a clipped zero is zero, not NaN.
LARGEST_LOG_RATIO = 300.0


def chipo_loss(
    policy_chosen_logps: Float[Tensor, "pair"],
    policy_rejected_logps: Float[Tensor, "pair"],
    ref_chosen_logps: Float[Tensor, "pair"],
    ref_rejected_logps: Float[Tensor, "pair"],
    *,
    beta: float,
    max_reward: float = 1.0,
) -> Float[Tensor, "pair"]:
    """chi-squared preference optimisation (experimental), one loss a pair, in nats.

    DPO with the link ``phi(z) = z + log z`` of the ratio ``z = policy / ref`` in the place of ``log z``, and the
    margin clipped to ``2 max_reward`` either way.

    Source: arXiv 2407.13399, eq. (10) and algorithm 1.

    Args: as :func:`safetyvalve.objectives.dpo_loss`, float64; ``max_reward`` is the largest true reward.

    Raises:
        UsageError: beta or max_reward is not above 0, or the shapes differ.
    """
    check_positive("max_reward", max_reward)
    ratios = implicit_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=1.0
    )
    check_positive("beta", beta)
    linked = [t.clamp(max=LARGEST_LOG_RATIO).exp() + t for t in ratios]
    margin = (beta * (linked[0] - linked[1])).clamp(-2 * max_reward, 2 * max_reward)
    return -F.logsigmoid(margin)
