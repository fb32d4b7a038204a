"""The SFT term: the adversary's pressure in RPO, and the owner of ``eta`` and of its reduction.

The theory needs the *sum* over a response's tokens: only then is the minimiser of the SFT term the baseline
policy itself, lengths included. A mean per sequence tilts it towards short answers; a mean over the tokens of a
step only weakens it. The three are kept apart by name because trainers that print the same formula differ here.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError

__all__ = ["Reduction", "check_eta", "check_reduction", "sft_loss"]

Reduction = Literal["sum", "sequence_mean", "batch_token_mean"]


def check_eta(eta: float) -> None:
    """Refuse an eta that is not a finite number of at least 0."""
    if not (math.isfinite(eta) and eta >= 0):
        raise UsageError(f"eta is {eta}; it must be a finite number of at least 0. 0 is plain DPO.")


def check_reduction(reduction: str) -> None:
    """Refuse a reduction that is not one of the three."""
    if reduction not in get_args(Reduction):
        raise UsageError(f"reduction is '{reduction}'; accepted: {', '.join(get_args(Reduction))}.")


def sft_loss(
    policy_baseline_logps: Float[Tensor, "response"],
    lengths: Float[Tensor, "response"] | None = None,
    *,
    reduction: Reduction = "sum",
    mean_length: float | None = None,
) -> Float[Tensor, "response"]:
    """Negative log-likelihood of the baseline's responses, one value a response, in nats.

    Source: the term E_{x ~ d0, a ~ base}[-log pi(a|x)] of arXiv 2405.16436, eq. (4.8).

    Args:
        policy_baseline_logps: log-probabilities summed over each response's tokens, in nats.
        lengths: tokens of each response, at least 1; needed by ``sequence_mean``.
        reduction: ``sum`` (the paper); ``sequence_mean`` divides by each response's own length;
            ``batch_token_mean`` divides by ``mean_length``, so that the mean over the responses of an optimizer
            step is the mean over all its tokens.
        mean_length: mean tokens a response over the *optimizer step*, not the micro-batch, above 0; needed by
            ``batch_token_mean``. A micro-batch's own mean would make the gradient depend on the split.

    Raises:
        UsageError: an unknown reduction, or the argument that it needs is missing or out of range.
    """
    check_reduction(reduction)
    if reduction == "sum":
        return -policy_baseline_logps
    if reduction == "sequence_mean":
        if lengths is None or lengths.shape != policy_baseline_logps.shape:
            raise UsageError(
                "reduction 'sequence_mean' needs lengths, one a response; got "
                f"{None if lengths is None else tuple(lengths.shape)} for {tuple(policy_baseline_logps.shape)}."
            )
        return -policy_baseline_logps / lengths
    if mean_length is None or not mean_length > 0:
        raise UsageError(
            f"reduction 'batch_token_mean' needs mean_length above 0; got {mean_length}. "
            "Pass the mean tokens a response over the whole optimizer step."
        )
    return -policy_baseline_logps / mean_length
