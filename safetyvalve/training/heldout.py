"""What held-out comparisons tell: displacement, margin, accuracy, and the pull of each term of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.training.forward import Forward
from safetyvalve.training.objective import Objective, ReferencedExample, Terms, Totals
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
            values = step_meters(seen, totals, self.objective)
            # A ratio to the reference is a displacement here: at the first evaluation it is 0.
            values = {k.replace("_ratio", "_displacement"): v for k, v in values.items()}
            values |= _per_token(Terms.cat(seen)) if totals.weight else {}
            values |= self._gradient_norms(policy)
        finally:
            policy.train(was_training)
        return {f"held_out/{name}": value for name, value in values.items()}

    def _terms(self, policy: PreTrainedModel, examples: Sequence[ReferencedExample]) -> tuple[list[Terms], Totals]:
        totals = Totals.of(examples)
        groups = self.forward.split(examples)
        return [self._group(policy, group, totals) for group in groups], totals

    def _group(self, policy: PreTrainedModel, group: Sequence[ReferencedExample], totals: Totals) -> Terms:
        sums = self.forward.sums(policy, [e.tree for e in group])
        return self.objective.terms(group, sums, totals)

    def _gradient_norms(self, policy: PreTrainedModel) -> dict[str, float]:
        """Euclidean norms of the gradient of each term of the loss, over all trained parameters."""
        examples = self._grad_examples()
        parameters = [p for p in policy.parameters() if p.requires_grad]
        totals = Totals.of(examples)
        sums: dict[str, list[Tensor]] = {}
        with self.forward.attention(policy):
            for group in self.forward.split(examples):
                terms = self._group(policy, group, totals)
                for name, weights, norm in (
                    ("preference", terms.weight, totals.weight),
                    ("sft", terms.mass, totals.mass),
                ):
                    if not len(weights) or (name == "sft" and self.objective.sft_weight == 0):
                        continue
                    value = (weights * getattr(terms, name)).sum() / norm
                    if not value.requires_grad:
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
            for name, has in (("preference", totals.weight), ("sft", totals.mass))
            if has
        }

    def _grad_examples(self) -> list[ReferencedExample]:
        """The first of the examples with comparisons, and as many of those without."""
        compared = [e for e in self.examples if e.tokens.comparisons]
        alone = [e for e in self.examples if not e.tokens.comparisons]
        return compared[: self.grad_examples] + alone[: self.grad_examples]


def _per_token(terms: Terms) -> dict[str, float]:
    """The change of all (weighted) responses together over their tokens together."""
    return {
        f"{side}_displacement_per_token": float((terms.weight * ratio).sum() / (terms.weight * length).sum())
        for side, ratio, length in (
            ("chosen", terms.chosen_ratio, terms.chosen_length),
            ("rejected", terms.rejected_ratio, terms.rejected_length),
        )
    }
