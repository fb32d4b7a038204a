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
from safetyvalve.training.multiplier import DisplacementMultiplier
from safetyvalve.trees import Tree

__all__ = ["DEFAULT_ETA", "MAXIMIN", "OBJECTIVES", "Objective", "ReferencedExample", "Terms", "Totals"]

DEFAULT_ETA = 0.05
"""Chosen by the sweep in docs/eta.md."""
START_ETA = 3.0
"""Where eta starts when ``max_displacement`` moves it: there the SFT term pulls harder at every margin."""

OBJECTIVES = ("rpo", "dpo", "ipo", "sft")
"""Names that ``--objective`` accepts. ``rpo`` is ``dpo`` plus eta * beta * ``sft``."""

MAXIMIN = "maximin"
"""What ``--algorithm maximin`` has in place of an objective: no loss on comparisons moves its policy, and the meters
report DPO's of its implicit reward."""


_OWNERS = {"eta": ("rpo",), "reduction": ("rpo", "sft"), "max_displacement": ("rpo",)}
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
    mass: float
    """Sum of the baseline's weights; with the chosen responses as baseline it equals ``weight``."""
    mean_length: float
    """Mean tokens of the baseline's responses by its weights; 1 where it has none."""

    @classmethod
    def of(cls, examples: Sequence[ReferencedExample]) -> Totals:
        weight = sum(c.weight for e in examples for c in e.tokens.comparisons)
        law = [(mass, len(e.tokens.response_ids[place])) for e in examples for place, mass in e.tokens.baseline_law]
        mass = sum(m for m, _ in law)
        return cls(weight, mass, sum(m * n for m, n in law) / mass if mass else 1.0)


class Terms(NamedTuple):
    """What a micro-batch gives: per comparison [pair], and per response of the baseline [response]."""

    weight: Tensor
    preference: Tensor
    """Preference loss, unweighted; zero under the plain SFT objective."""
    margin: Tensor
    """Margin of implicit rewards, nats; detached, as are the ratios."""
    chosen_ratio: Tensor
    """log(policy / reference) of the chosen response, nats."""
    rejected_ratio: Tensor
    chosen_length: Tensor
    """Tokens."""
    rejected_length: Tensor
    mass: Tensor
    """[response]: weight in the baseline's law, as all that follow."""
    sft: Tensor
    """SFT term as it enters the loss: times eta * beta, or as it is under the plain SFT objective."""
    baseline_logps: Tensor
    """Log-probability under the policy, nats; detached."""
    baseline_ratio: Tensor
    baseline_length: Tensor

    def loss(self, totals: Totals) -> Tensor:
        """This micro-batch's part of the step's loss."""
        loss = self.sft.new_zeros(())
        if totals.weight:
            loss = loss + (self.weight * self.preference).sum() / totals.weight
        if totals.mass:
            loss = loss + (self.mass * self.sft).sum() / totals.mass
        return loss

    def detach(self) -> Terms:
        return Terms(*(t.detach() for t in self))

    @classmethod
    def cat(cls, parts: Sequence[Terms]) -> Terms:
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Objective:
    """A named objective and its coefficients.

    Args:
        name: one of :data:`OBJECTIVES`, or :data:`MAXIMIN`.
        beta: strength of the KL regularisation, above 0. It also scales the implicit reward.
        eta: weight of the SFT term, at least 0; of ``rpo`` only, where None takes the default. With
            ``max_displacement`` it is where eta starts.
        reduction: of the SFT term, see :func:`safetyvalve.objectives.sft_loss`; of ``rpo`` and ``sft`` only.
        label_smoothing: of the Bradley-Terry loss, in [0, 0.5); refused for objectives without one.
        max_displacement: most that the baseline's responses may lose, in nats per token; of ``rpo`` only. Training
            moves eta to keep it, see :class:`safetyvalve.training.DisplacementMultiplier`. None leaves eta fixed.

    Raises:
        UsageError: an unknown name, a coefficient out of range, or one that this objective would ignore.
    """

    name: str = "rpo"
    beta: float = 0.05
    eta: float = None  # type: ignore[assignment]  # resolved below
    reduction: Reduction = None  # type: ignore[assignment]
    label_smoothing: float = 0.0
    max_displacement: float | None = None

    def __post_init__(self) -> None:
        if self.name not in (*OBJECTIVES, MAXIMIN):
            raise UsageError(f"objective is '{self.name}'; accepted: {', '.join(OBJECTIVES)}.")
        start = DEFAULT_ETA if self.max_displacement is None else START_ETA
        for option, otherwise in (("eta", 0.0), ("reduction", "sum"), ("max_displacement", None)):
            given, owners = getattr(self, option), _OWNERS[option]
            if given is None:
                default = {"eta": start, "reduction": "sum"}.get(option) if self.name in owners else otherwise
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
        if self.max_displacement is not None:
            DisplacementMultiplier(self.max_displacement, start=self.eta)

    @staticmethod
    def without_foreign(values: Mapping[str, Any]) -> dict[str, Any]:
        """Resolved settings without the coefficients that their objective does not take."""
        return {k: v for k, v in values.items() if values["name"] in _OWNERS.get(k, (*OBJECTIVES, MAXIMIN))}

    @property
    def sft_weight(self) -> float:
        """What the SFT term is multiplied by: eta * beta in RPO, 1 in SFT, else 0."""
        return {"rpo": self.eta * self.beta, "sft": 1.0}.get(self.name, 0.0)

    @property
    def has_sft_term(self) -> bool:
        """Whether the baseline has a part in it, however small."""
        return self.name in ("rpo", "sft")

    def terms(self, examples: Sequence[ReferencedExample], policy_logps: Tensor, totals: Totals) -> Terms:
        """Terms of every comparison and every response of the baseline, in the examples' order.

        Args:
            examples: those of one micro-batch.
            policy_logps: [response] over the examples in order, summed over tokens, in nats; carries the graph.
            totals: of the whole optimizer step.
        """
        winner, loser, weight, place, mass = [], [], [], [], []
        offset = 0
        for example in examples:
            for comparison in example.tokens.comparisons:
                winner.append(offset + comparison.winner)
                loser.append(offset + comparison.loser)
                weight.append(comparison.weight)
            for response, share in example.tokens.baseline_law:
                place.append(offset + response)
                mass.append(share)
            offset += len(example.tokens.response_ids)

        def numbers(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=policy_logps.device, dtype=policy_logps.dtype)

        def indices(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, device=policy_logps.device, dtype=torch.int64)

        length = numbers([float(len(r)) for e in examples for r in e.tokens.response_ids])
        ref_logps = torch.cat([e.ref_logps for e in examples]).to(policy_logps)
        won, lost, base = indices(winner), indices(loser), indices(place)
        policy_w, policy_l = policy_logps[won], policy_logps[lost]
        ref_w, ref_l = ref_logps[won], ref_logps[lost]
        preference = torch.zeros_like(policy_w)
        if self.name != "sft":
            extra = {"label_smoothing": self.label_smoothing} if self.label_smoothing else {}
            loss = PREFERENCE_LOSSES["dpo" if self.name in ("rpo", MAXIMIN) else self.name]
            preference = loss(policy_w, policy_l, ref_w, ref_l, beta=self.beta, **extra)
        # The chosen responses as baseline are gathered once: twice would move the last bits of their gradients.
        policy_b = policy_w if place == winner else policy_logps[base]
        sft = sft_loss(policy_b, length[base], reduction=self.reduction, mean_length=totals.mean_length)
        with torch.no_grad():
            rewards = implicit_rewards(policy_w, policy_l, ref_w, ref_l, beta=self.beta)
        return Terms(
            weight=numbers(weight),
            preference=preference,
            margin=rewards.margin,
            chosen_ratio=rewards.chosen / self.beta,
            rejected_ratio=rewards.rejected / self.beta,
            chosen_length=length[won],
            rejected_length=length[lost],
            mass=numbers(mass),
            sft=self.sft_weight * sft,
            baseline_logps=policy_b.detach(),
            baseline_ratio=(policy_b - ref_logps[base]).detach(),
            baseline_length=length[base],
        )
