"""The loss that a reward model learns comparisons by."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives.preference import bradley_terry_nll

__all__ = ["bradley_terry_loss"]


def bradley_terry_loss(
    chosen_rewards: Float[Tensor, "*pair"],
    rejected_rewards: Float[Tensor, "*pair"],
    *,
    margin: float | Float[Tensor, "*pair"] | None = None,
    centering: float = 0.0,
) -> Float[Tensor, "*pair"]:
    """Negative log-likelihood that the chosen response won, in nats: ``-log sigmoid(r_w - r_l - m) + c (r_w + r_l)^2``.

    Source: L_D of arXiv 2405.16436, eq. (3.3); the margin is that of arXiv 2307.09288, section 3.2.2; the
    centering that of arXiv 2312.09244: comparisons do not see what is added to all rewards of a prompt, and it keeps
    their mean near zero.

    Args:
        chosen_rewards: rewards of the chosen responses; any shape, such as one row a member of an ensemble.
        rejected_rewards: of the rejected ones, the same shape.
        margin: by how much the chosen should win, at least 0; one for all, or one a pair.
        centering: weight of the squared sum, at least 0.

    Raises:
        UsageError: shapes that differ, a margin or centering below 0 or not finite.
    """
    if chosen_rewards.shape != rejected_rewards.shape:
        raise UsageError(
            f"rewards have shapes {tuple(chosen_rewards.shape)} and {tuple(rejected_rewards.shape)}; chosen and "
            "rejected must have one entry a pair each."
        )
    if not (math.isfinite(centering) and centering >= 0):
        raise UsageError(f"centering is {centering}; it must be a finite number of at least 0, such as 0.01.")
    gap = chosen_rewards - rejected_rewards
    if margin is not None:
        wanted = torch.as_tensor(margin, dtype=gap.dtype, device=gap.device)
        if not bool((torch.isfinite(wanted) & (wanted >= 0)).all()):
            raise UsageError("margin has a value below 0 or not finite; at least 0 is accepted, such as 1.")
        gap = gap - wanted
    loss = bradley_terry_nll(gap)
    if centering:
        loss = loss + centering * torch.square(chosen_rewards + rejected_rewards)
    return loss
