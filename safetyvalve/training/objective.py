"""An objective with its coefficients fixed: what the trainer minimises and the meters report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safetyvalve.data import TokenizedExample
from safetyvalve.errors import UsageError
from safetyvalve.objectives import PREFERENCE_LOSSES, Reduction, implicit_rewards, sft_loss
from safetyvalve.objectives.preference import check_positive
from safetyvalve.objectives.regularizers import check_eta, check_reduction
from safetyvalve.trees import Tree

__all__ = ["DEFAULT_ETA", "OBJECTIVES", "Objective", "PairTerms", "ReferencedExample", "Totals"]

DEFAULT_ETA = 0.05
"""Chosen by the sweep in docs/eta.md."""

OBJECTIVES = ("rpo", "dpo", "ipo", "sft")
"""Names that ``--objective`` accepts. ``rpo`` is ``dpo`` plus eta * beta * ``sft``."""


_OWNERS = {"eta": ("rpo",), "reduction": ("rpo", "sft")}
"""Objectives that take a coefficient, where not all do."""


@dataclass(frozen=True)
class ReferencedExample:
    """Tokens of an example with the reference policy's log-probability of each response.

    ``ref_logps`` is fp32 [response], summed over tokens, in nats.
    """

    tokens: TokenizedExample
    ref_logps: Tensor

    @property
    def tree(self) -> Tree:
        return Tree(self.tokens.prompt_ids, self.tokens.response_ids)


class Totals(NamedTuple):
    """What an optimizer step is normalised by, whatever its micro-batches."""

    weight: float
    """Sum of the comparisons' weights."""
    mean_length: float
    """Weighted mean tokens of the baseline's (chosen) responses."""

    @classmethod
    def of(cls, examples: Sequence[ReferencedExample]) -> Totals:
        weights, lengths = [], []
        for example in examples:
            for comparison in example.tokens.comparisons:
                weights.append(comparison.weight)
                lengths.append(len(example.tokens.response_ids[comparison.winner]))
        total = sum(weights)
        return cls(total, sum(w * n for w, n in zip(weights, lengths, strict=True)) / total)


class PairTerms(NamedTuple):
    """Per comparison, [pair]: the terms of the loss and what the meters need."""

    weight: Tensor
    preference: Tensor
    """Preference loss, unweighted; zero under the plain SFT objective."""
    sft: Tensor
    """SFT term as it enters the loss: times eta * beta, or as it is under the plain SFT objective."""
    margin: Tensor
    """Margin of implicit rewards, nats; detached."""
    chosen_ratio: Tensor
    """log(policy / reference) of the chosen response, nats; detached."""
    rejected_ratio: Tensor

    @property
    def loss(self) -> Tensor:
        """Weighted sum over the comparisons; the caller divides by the step's total weight."""
        return (self.weight * (self.preference + self.sft)).sum()


@dataclass(frozen=True)
class Objective:
    """A named objective and its coefficients.

    Args:
        name: one of :data:`OBJECTIVES`.
        beta: strength of the KL regularisation, above 0. It also scales the implicit reward.
        eta: weight of the SFT term, at least 0; of ``rpo`` only, where None takes the default.
        reduction: of the SFT term, see :func:`safetyvalve.objectives.sft_loss`; of ``rpo`` and ``sft`` only.
        label_smoothing: of the Bradley-Terry loss, in [0, 0.5); refused for objectives without one.

    Raises:
        UsageError: an unknown name, a coefficient out of range, or one that this objective would ignore.
    """

    name: str = "rpo"
    beta: float = 0.05
    eta: float = None  # type: ignore[assignment]  # resolved below
    reduction: Reduction = None  # type: ignore[assignment]
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise UsageError(f"objective is '{self.name}'; accepted: {', '.join(OBJECTIVES)}.")
        for option, otherwise in (("eta", 0.0), ("reduction", "sum")):
            given, owners = getattr(self, option), _OWNERS[option]
            if given is None:
                default = {"eta": DEFAULT_ETA, "reduction": "sum"}[option] if self.name in owners else otherwise
                object.__setattr__(self, option, default)
            elif self.name not in owners:
                raise UsageError(
                    f"{option} {given} has no meaning for the objective '{self.name}'; it belongs to "
                    f"{' and '.join(owners)}. Leave it out."
                )
        check_positive("beta", self.beta)
        check_eta(self.eta)
        if not 0 <= self.label_smoothing < 0.5:
            raise UsageError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 0.5.")
        if self.label_smoothing and self.name not in ("rpo", "dpo"):
            raise UsageError(
                f"label_smoothing {self.label_smoothing} has no meaning for the objective '{self.name}'; it belongs to "
                "rpo and dpo. Leave it out."
            )
        check_reduction(self.reduction)

    @staticmethod
    def without_foreign(values: Mapping[str, Any]) -> dict[str, Any]:
        """Resolved settings without the coefficients that their objective does not take."""
        return {k: v for k, v in values.items() if values["name"] in _OWNERS.get(k, OBJECTIVES)}

    @property
    def sft_weight(self) -> float:
        """What the SFT term is multiplied by: eta * beta in RPO, 1 in SFT, else 0."""
        return {"rpo": self.eta * self.beta, "sft": 1.0}.get(self.name, 0.0)

    def pair_terms(self, examples: Sequence[ReferencedExample], policy_logps: Tensor, totals: Totals) -> PairTerms:
        """Terms of every comparison of the examples, in order.

        Args:
            examples: those of one micro-batch.
            policy_logps: [response] over the examples in order, summed over tokens, in nats; carries the graph.
            totals: of the whole optimizer step.
        """
        device = policy_logps.device
        winner, loser, weight, length = [], [], [], []
        offset = 0
        for example in examples:
            for comparison in example.tokens.comparisons:
                winner.append(offset + comparison.winner)
                loser.append(offset + comparison.loser)
                weight.append(comparison.weight)
                length.append(float(len(example.tokens.response_ids[comparison.winner])))
            offset += len(example.tokens.response_ids)
        ref_logps = torch.cat([e.ref_logps for e in examples]).to(policy_logps)
        policy_w, policy_l = policy_logps[winner], policy_logps[loser]
        ref_w, ref_l = ref_logps[winner], ref_logps[loser]
        preference = torch.zeros_like(policy_w)
        if self.name != "sft":
            extra = {"label_smoothing": self.label_smoothing} if self.label_smoothing else {}
            loss = PREFERENCE_LOSSES["dpo" if self.name == "rpo" else self.name]
            preference = loss(policy_w, policy_l, ref_w, ref_l, beta=self.beta, **extra)
        lengths = torch.tensor(length, device=device, dtype=policy_logps.dtype)
        sft = sft_loss(policy_w, lengths, reduction=self.reduction, mean_length=totals.mean_length)
        with torch.no_grad():
            rewards = implicit_rewards(policy_w, policy_l, ref_w, ref_l, beta=self.beta)
        return PairTerms(
            weight=torch.tensor(weight, device=device, dtype=policy_logps.dtype),
            preference=preference,
            sft=self.sft_weight * sft,
            margin=rewards.margin,
            chosen_ratio=rewards.chosen / self.beta,
            rejected_ratio=rewards.rejected / self.beta,
        )
