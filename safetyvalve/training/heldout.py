"""What held-out comparisons tell: displacement, margin, accuracy, and the pull of each term of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.training.forward import Forward
from safetyvalve.training.objective import Objective, PairTerms, ReferencedExample, Totals
from safetyvalve.training.policy import step_meters

__all__ = ["HeldOutMeter"]


class HeldOutMeter(NamedTuple):
    """Measures the policy on comparisons that it does not train on.

    ``grad_examples`` of them also give the gradient norms of the two loss terms, at the cost of two backward passes.
    """

    examples: list[ReferencedExample]
    objective: Objective
    forward: Forward
    grad_examples: int = 4

    def measure(self, policy: PreTrainedModel) -> dict[str, float]:
        """Metrics by name; units and formulas are in docs/metrics.md. Leaves gradients and mode as they were."""
        if not self.examples:
            return {}
        was_training = policy.training
        policy.eval()
        try:
            with torch.no_grad():
                seen, totals = self._terms(policy, self.examples)
            values = step_meters(seen, totals)
            for side in ("chosen", "rejected"):  # said as displacement, with its per-token form
                del values[f"{side}_ratio"]
            values |= self._displacement(seen)
            values |= self._gradient_norms(policy)
        finally:
            policy.train(was_training)
        return {f"held_out/{name}": value for name, value in values.items()}

    def _terms(self, policy: PreTrainedModel, examples: Sequence[ReferencedExample]) -> tuple[list[PairTerms], Totals]:
        totals = Totals.of(examples)
        groups = self.forward.split(examples)
        return [self._group(policy, group, totals) for group in groups], totals

    def _group(self, policy: PreTrainedModel, group: Sequence[ReferencedExample], totals: Totals) -> PairTerms:
        sums = self.forward.sums(policy, [e.tree for e in group])
        return self.objective.pair_terms(group, sums, totals)

    def _displacement(self, seen: Sequence[PairTerms]) -> dict[str, float]:
        """Per token: the change of all (weighted) responses together over their tokens together."""
        weights = torch.cat([t.weight for t in seen])
        groups = self.forward.split(self.examples)
        in_order = [(e, c) for group in groups for e in group for c in e.tokens.comparisons]
        result = {}
        for side, ratios in (
            ("chosen", [t.chosen_ratio for t in seen]),
            ("rejected", [t.rejected_ratio for t in seen]),
        ):
            lengths = torch.tensor(
                [float(len(e.tokens.response_ids[c.winner if side == "chosen" else c.loser])) for e, c in in_order]
            ).to(weights)
            total = (weights * torch.cat(ratios)).sum()
            result[f"{side}_displacement"] = float(total / weights.sum())
            result[f"{side}_displacement_per_token"] = float(total / (weights * lengths).sum())
        return result

    def _gradient_norms(self, policy: PreTrainedModel) -> dict[str, float]:
        """Euclidean norms of the gradient of each term of the loss, over all trained parameters."""
        examples = self.examples[: self.grad_examples]
        parameters = [p for p in policy.parameters() if p.requires_grad]
        totals = Totals.of(examples)
        sums: dict[str, list[Tensor]] = {}
        with self.forward.attention(policy):
            for group in self.forward.split(examples):
                terms = self._group(policy, group, totals)
                for name in ("preference", "sft"):
                    value = (terms.weight * getattr(terms, name)).sum() / totals.weight
                    if not value.requires_grad or (name == "sft" and self.objective.sft_weight == 0):
                        continue
                    found = torch.autograd.grad(value, parameters, retain_graph=name == "preference", allow_unused=True)
                    gradient = [torch.zeros(()) if g is None else g for g in cast(tuple[Tensor | None, ...], found)]
                    known = sums.get(name)
                    sums[name] = (
                        list(gradient) if known is None else [a + b for a, b in zip(known, gradient, strict=True)]
                    )
        return {
            f"{name}_grad_norm": float(torch.stack([g.double().square().sum() for g in sums[name]]).sum().sqrt())
            if name in sums
            else 0.0
            for name in ("preference", "sft")
        }
