"""What held-out comparisons tell: displacement, margin, accuracy, and the pull of each term of the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.training.forward import Forward
from safetyvalve.training.objective import Objective, ReferencedExample, Terms, Totals
from safetyvalve.training.policy import step_meters

__all__ = ["HeldOutMeter"]


class HeldOutMeter(NamedTuple):
    """Measures the policy on comparisons that it does not train on.

    ``grad_examples`` of them also give the gradient norms of the two loss terms, at the cost of a forward and a
    backward pass each.
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
            values |= _per_token(Terms.cat(seen), self._clusters()) if totals.weight else {}
            values |= self._gradient_norms(policy)
        finally:
            policy.train(was_training)
        return {f"held_out/{name}": value for name, value in values.items()}

    def _clusters(self) -> Tensor:
        """[pair]: which of the examples with comparisons each comparison is of, in the order of :meth:`_terms`."""
        compared = [e.tokens.comparisons for g in self.forward.split(self.examples) for e in g if e.tokens.comparisons]
        return torch.tensor([i for i, comparisons in enumerate(compared) for _ in comparisons])

    def _terms(self, policy: PreTrainedModel, examples: Sequence[ReferencedExample]) -> tuple[list[Terms], Totals]:
        totals = Totals.of(examples)
        groups = self.forward.split(examples)
        return [self._group(policy, group, totals) for group in groups], totals

    def _group(self, policy: PreTrainedModel, group: Sequence[ReferencedExample], totals: Totals) -> Terms:
        sums = self.forward.sums(policy, [e.tree for e in group])
        return self.objective.terms(group, sums, totals)

    def _gradient_norms(self, policy: PreTrainedModel) -> dict[str, float]:
        """Euclidean norms of the gradient of each term of the loss, over all trained parameters.

        One term after the other, each with a forward of its own: two gradients, or a graph kept for a second backward
        pass, would stand beside the optimizer's state and be the peak of the whole run.
        """
        examples = self._grad_examples()
        totals = Totals.of(examples)
        parameters = [p for p in policy.parameters() if p.requires_grad]
        before = [p.grad for p in parameters]
        norms: dict[str, float] = {}
        try:
            with self.forward.attention(policy):
                for name, has in (("preference", totals.weight), ("sft", totals.mass)):
                    if has:
                        for p in parameters:
                            p.grad = None
                        self._backward(policy, name, examples, totals)
                        norms[f"{name}_grad_norm"] = _norm([p.grad for p in parameters if p.grad is not None])
        finally:
            for p, gradient in zip(parameters, before, strict=True):
                p.grad = gradient
        return norms

    def _backward(
        self, policy: PreTrainedModel, name: str, examples: Sequence[ReferencedExample], totals: Totals
    ) -> None:
        """Add the gradient of one term, normalised by the totals, to that of the parameters."""
        if name == "sft" and self.objective.sft_weight == 0:
            return
        for group in self.forward.split(examples):
            terms = self._group(policy, group, totals)
            weights, total = (terms.weight, totals.weight) if name == "preference" else (terms.mass, totals.mass)
            value = (weights * getattr(terms, name)).sum() / total
            if len(weights) and value.requires_grad:
                value.backward()

    def _grad_examples(self) -> list[ReferencedExample]:
        """The first of the examples with comparisons, and as many of those without."""
        compared = [e for e in self.examples if e.tokens.comparisons]
        alone = [e for e in self.examples if not e.tokens.comparisons]
        return compared[: self.grad_examples] + alone[: self.grad_examples]


def _per_token(terms: Terms, clusters: Tensor) -> dict[str, float]:
    """The change of all (weighted) responses together over their tokens together; of the chosen ones with the standard
    error of a ratio of means over examples (linearised).

    Args:
        terms: of all examples.
        clusters: [pair] example of each comparison, from 0.
    """
    values = {
        f"{side}_displacement_per_token": float((terms.weight * ratio).sum() / (terms.weight * length).sum())
        for side, ratio, length in (
            ("chosen", terms.chosen_ratio, terms.chosen_length),
            ("rejected", terms.rejected_ratio, terms.rejected_length),
        )
    }
    n = int(clusters.max()) + 1
    ratio = values["chosen_displacement_per_token"]
    rest = (terms.weight * (terms.chosen_ratio - ratio * terms.chosen_length)).double().cpu()
    sums = torch.zeros(n, dtype=torch.float64).index_add_(0, clusters, rest)
    if n > 1:
        tokens = float((terms.weight * terms.chosen_length).sum())
        values["chosen_displacement_per_token_se"] = math.sqrt(n / (n - 1) * float(sums.square().sum())) / tokens
    return values | {"compared": float(n)}


def _norm(gradients: Sequence[Tensor]) -> float:
    """Summed in double precision, a piece at a time: a whole embedding in doubles is hundreds of megabytes."""
    return math.sqrt(sum(float(part.double().square().sum()) for g in gradients for part in g.flatten().split(2**20)))
