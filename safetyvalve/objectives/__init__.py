"""Losses as pure functions: log-probabilities in, one loss a pair out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from safetyvalve.objectives.adversarial import (
    adversarial_gap,
    adversarial_reward_loss,
    leave_one_out,
    rloo_loss,
)
from safetyvalve.objectives.preference import ImplicitRewards, dpo_loss, implicit_rewards, ipo_loss
from safetyvalve.objectives.regularizers import Reduction, sft_loss
from safetyvalve.objectives.reward import bradley_terry_loss
from safetyvalve.objectives.rpo import rpo_loss
from safetyvalve.objectives.weights import (
    PAPER_ETA,
    PeerSettings,
    effective_token_weight,
    parity_margin,
    peer_settings,
)

__all__ = [
    "PAPER_ETA",
    "PREFERENCE_LOSSES",
    "ImplicitRewards",
    "PeerSettings",
    "PreferenceLoss",
    "Reduction",
    "adversarial_gap",
    "adversarial_reward_loss",
    "bradley_terry_loss",
    "dpo_loss",
    "effective_token_weight",
    "implicit_rewards",
    "ipo_loss",
    "leave_one_out",
    "parity_margin",
    "peer_settings",
    "rloo_loss",
    "rpo_loss",
    "sft_loss",
]

PreferenceLoss = Callable[..., Tensor]
"""``(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta) -> loss a pair``."""

PREFERENCE_LOSSES: dict[str, PreferenceLoss] = {"dpo": dpo_loss, "ipo": ipo_loss}
"""Losses on comparisons by the name people type. RPO is ``dpo`` plus the SFT term, see :func:`rpo_loss`."""
