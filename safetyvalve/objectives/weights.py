"""What a pair of (beta, eta, reduction) means in practice, and what other trainers would call it."""

from __future__ import annotations

import math
from typing import NamedTuple

from safetyvalve.errors import UsageError
from safetyvalve.objectives.preference import check_positive
from safetyvalve.objectives.regularizers import Reduction, check_eta

__all__ = ["PAPER_ETA", "PeerSettings", "effective_token_weight", "parity_margin", "peer_settings"]

PAPER_ETA = 0.005
"""The eta of the experiments in arXiv 2405.16436 (section 6)."""


def parity_margin(
    eta: float, *, mean_length: float = 1.0, reduction: Reduction = "sum", label_smoothing: float = 0.0
) -> float:
    """Margin of implicit rewards (nats) at which the two pulls on a chosen response are equally strong.

    On a chosen response's log-probability DPO's gradient is ``-beta * sigmoid(-margin)`` and the SFT term's is
    ``-eta * beta`` (divided by the length under the mean reductions), so they are equal at
    ``margin = log(1 / e - 1)`` with ``e`` the effective eta; label smoothing s weakens DPO's pull by ``beta * s``, so
    that ``e + s`` stands for ``e``. Below it the preference loss dominates: the valve is
    nearly shut. Returns infinity for eta = 0 and minus infinity once ``e >= 1``, where it dominates always.

    Args:
        eta: at least 0.
        mean_length: mean tokens of a chosen response, above 0; used by the mean reductions.
        reduction: as :func:`safetyvalve.objectives.sft_loss`.
        label_smoothing: of the preference loss.
    """
    check_eta(eta)
    effective = eta / _divisor(reduction, mean_length)
    if effective > 0:
        effective += label_smoothing
    if effective == 0:
        return math.inf
    return math.log(1.0 / effective - 1.0) if effective < 1 else -math.inf


def effective_token_weight(beta: float, eta: float, *, mean_length: float, reduction: Reduction = "sum") -> float:
    """What one token of a baseline response of mean length weighs in the loss: ``eta * beta`` or less."""
    check_positive("beta", beta)
    check_eta(eta)
    return eta * beta / _divisor(reduction, mean_length)


class PeerSettings(NamedTuple):
    """The nearest setting of another trainer, and what still differs."""

    trainer: str
    setting: str
    differs: str


def peer_settings(
    beta: float, eta: float, *, mean_length: float, reduction: Reduction = "sum", label_smoothing: float = 0.0
) -> list[PeerSettings]:
    """The settings of other trainers whose SFT term weighs as much on a response of mean length.

    TRL pools the negative log-likelihood over the tokens of a micro-batch and multiplies it by a weight without
    beta; LLaMA-Factory and OpenRLHF take the mean over sequences of the token mean, without beta. Where ``mean_length``
    is that of a batch's chosen responses, TRL 1.16's loss of that batch is ours under ``sum`` and ``batch_token_mean``
    (held by tests/training/test_trl_parity.py); the other trainers' settings are read from their sources.

    Args:
        beta, eta, reduction, label_smoothing: of the objective.
        mean_length: mean tokens of a chosen response, above 0.
    """
    weight = effective_token_weight(beta, eta, mean_length=mean_length, reduction=reduction) * mean_length
    pooled = "a token mean per micro-batch, so the weight depends on the batch split"
    if reduction == "sequence_mean":
        pooled += ", and a long response weighs more than a short one"
        per_sequence = "nothing in the SFT term"
    else:
        per_sequence = "a mean per sequence, which favours short responses"
    smooth = ("", "", "")
    if label_smoothing:
        # loss_type 'sigmoid' ignores TRL's label_smoothing, and 'robust' subtracts the flipped term that ours adds.
        pooled += f", and no label smoothing of {label_smoothing:g}: TRL's belongs to other losses"
        smooth = ("", f", dpo_label_smoothing: {label_smoothing:g}", f" --label_smoothing {label_smoothing:g}")
    settings = (
        f"loss_type=['sigmoid','sft'], loss_weights=[1.0,{weight:.4g}], beta={beta:g}",
        f"pref_ftx: {weight:.4g}, pref_beta: {beta:g}",
        f"--nll_loss_coef {weight:.4g} --beta {beta:g}",
    )
    trainers, differs = ("TRL", "LLaMA-Factory", "OpenRLHF"), (pooled, per_sequence, per_sequence)
    return [PeerSettings(t, s + extra, d) for t, s, extra, d in zip(trainers, settings, smooth, differs, strict=True)]


def _divisor(reduction: Reduction, mean_length: float) -> float:
    if not mean_length > 0:
        raise UsageError(f"mean_length is {mean_length}; it must be above 0 (tokens a response).")
    return 1.0 if reduction == "sum" else mean_length
