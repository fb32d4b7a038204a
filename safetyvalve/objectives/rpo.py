"""Regularized preference optimisation: the preference loss plus the scaled SFT term."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives.preference import dpo_loss
from safetyvalve.objectives.regularizers import Reduction, check_eta, sft_loss

__all__ = ["rpo_loss"]


def rpo_loss(
    policy_chosen_logps: Float[Tensor, "pair"],
    policy_rejected_logps: Float[Tensor, "pair"],
    ref_chosen_logps: Float[Tensor, "pair"],
    ref_rejected_logps: Float[Tensor, "pair"],
    *,
    beta: float,
    eta: float,
    label_smoothing: float = 0.0,
    policy_baseline_logps: Float[Tensor, "pair"] | None = None,
    baseline_lengths: Float[Tensor, "pair"] | None = None,
    reduction: Reduction = "sum",
    mean_length: float | None = None,
) -> Float[Tensor, "pair"]:
    """RPO, one loss a pair, in nats: ``dpo + eta * beta * sft``.

    Source: arXiv 2405.16436, eq. (4.8) and algorithm 2. With ``eta = 0`` it is DPO.

    Args:
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta, label_smoothing:
            as :func:`safetyvalve.objectives.dpo_loss`.
        eta: weight of the adversary, at least 0. The SFT term is multiplied by eta * beta.
        policy_baseline_logps: policy log-probabilities of the baseline's response, summed over tokens, in nats;
            by default the chosen responses are the baseline, as in the paper's experiments.
        baseline_lengths, reduction, mean_length: as :func:`safetyvalve.objectives.sft_loss`.

    Raises:
        UsageError: a coefficient out of range, shapes that differ, or a reduction without what it needs.
    """
    check_eta(eta)
    baseline = policy_chosen_logps if policy_baseline_logps is None else policy_baseline_logps
    if baseline.shape != policy_chosen_logps.shape:
        raise UsageError(
            f"policy_baseline_logps has shape {tuple(baseline.shape)}; it must have one entry a pair, "
            f"{tuple(policy_chosen_logps.shape)}. For a separate baseline set add dpo_loss and sft_loss yourself."
        )
    preference = dpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        ref_chosen_logps,
        ref_rejected_logps,
        beta=beta,
        label_smoothing=label_smoothing,
    )
    sft = sft_loss(baseline, baseline_lengths, reduction=reduction, mean_length=mean_length)
    return preference + eta * beta * sft
