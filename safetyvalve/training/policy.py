"""The policy trainer: transformers' loop, our objective and our forward."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from safetyvalve.training.baseline import SftPool
from safetyvalve.training.forward import Forward
from safetyvalve.training.multiplier import DisplacementMultiplier
from safetyvalve.training.objective import Objective, ReferencedExample, Terms, Totals
from safetyvalve.training.profiling import StepProfiler
from safetyvalve.training.trainer import TreeTrainer, refuse_non_finite, resident_gib

__all__ = ["Constraint", "PolicyTrainer", "step_meters"]


class Constraint(NamedTuple):
    """What keeps the baseline's displacement below a limit: the multiplier, and the held-out examples that it follows.

    ``per_step`` of the examples are measured at each step, one after the other in turn.
    """

    multiplier: DisplacementMultiplier
    examples: Sequence[ReferencedExample]
    per_step: int

    def draw(self, step: int) -> list[ReferencedExample]:
        """Those of a step; a function of the step alone, so that a resumed run goes on with the same."""
        n = min(self.per_step, len(self.examples))
        return [self.examples[(step * n + i) % len(self.examples)] for i in range(n)]


class PolicyTrainer(TreeTrainer):
    """Trains a policy. A step is normalised by its own totals, so that any split into micro-batches gives the same
    gradient.

    Args:
        objective: what to minimise.
        forward: how log-probabilities are computed; :func:`safetyvalve.trees.choose_engine` gives its engine.
        sft_pool: prompts of a separate SFT set, some of which join every step as trees of their own.
        constraint: moves the objective's eta so that the baseline's displacement stays below a limit.
        **kwargs: of :class:`transformers.Trainer`; ``train_dataset`` holds :class:`ReferencedExample`.

    Raises:
        UsageError: several processes, or gradient accumulation by the Trainer.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        forward: Forward,
        sft_pool: SftPool | None = None,
        constraint: Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.objective, self.forward, self.sft_pool = objective, forward, sft_pool
        self.constraint = constraint
        self.profiler: StepProfiler | None = None

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Gradient of one optimizer step; returns its loss, detached."""
        # Dropout stays off: the reference has none, and with it the policy would differ from it before any update.
        model.eval()
        started = time.perf_counter()
        if self.sft_pool is not None:
            inputs = [*inputs, *self.sft_pool.draw(self.state.global_step)]
        totals = Totals.of(inputs)
        seen: list[Terms] = []
        loss = torch.zeros((), device=self.args.device)
        with self.forward.attention(self.model):
            steered = self._steer()
            groups = self.forward.split(inputs)
            if self.profiler is not None:
                self.profiler.computes(self.model, [[e.tree for e in group] for group in groups])
            for group in groups:
                terms = self.terms(group, totals)
                part = terms.loss(totals)
                refuse_non_finite(
                    part, [e.tokens.id for e in group], self.state.global_step, "lower --learning-rate or raise --beta"
                )
                self.accelerator.backward(part)
                loss += part.detach()
                seen.append(terms.detach())
        tokens = sum(e.tree.n_tokens for e in inputs)
        self._meters = step_meters(seen, totals, self.objective) | {
            "tokens_per_second": tokens / (time.perf_counter() - started),
            "resident_gib": resident_gib(),
        }
        self._meters |= steered
        return loss

    def _steer(self) -> dict[str, float]:
        """Measure the constraint and set the step's eta; nothing without one."""
        if self.constraint is None:
            return {}
        examples = self.constraint.draw(self.state.global_step)
        totals = Totals.of(examples)
        with torch.no_grad():
            seen = [self.terms(group, totals) for group in self.forward.split(examples)]
        displacement = -step_meters(seen, totals, self.objective)["baseline_ratio_per_token"]
        self.objective = replace(self.objective, eta=self.constraint.multiplier.observe(displacement))
        return {"displacement": displacement, "eta": self.objective.eta}

    def terms(self, examples: Sequence[ReferencedExample], totals: Totals) -> Terms:
        """Forward of one micro-batch, with the graph."""
        sums = self.forward.sums(self.model, [e.tree for e in examples])
        return self.objective.terms(examples, sums, totals)

    def save_beside(self, checkpoint: Path) -> None:
        """The multiplier's state, which eta goes on from."""
        if self.constraint is not None:
            self.constraint.multiplier.save(checkpoint)


def step_meters(seen: Sequence[Terms], totals: Totals, objective: Objective) -> dict[str, float]:
    """Weighted means over a step; each is documented in docs/metrics.md. What the step has not is left out."""
    terms = Terms.cat(seen)
    values: dict[str, float] = {}
    if totals.weight:

        def mean(column: Tensor) -> float:
            return float((terms.weight * column).sum() / totals.weight)

        values |= {
            "preference_loss": mean(terms.preference),
            "margin": mean(terms.margin),
            "accuracy": mean((terms.margin > 0).to(terms.weight) + 0.5 * (terms.margin == 0).to(terms.weight)),
            "chosen_ratio": mean(terms.chosen_ratio),
            "rejected_ratio": mean(terms.rejected_ratio),
        }
    if totals.mass:
        values["sft_term"] = float((terms.mass * terms.sft).sum() / totals.mass)
        if objective.has_sft_term:
            ratio = float((terms.mass * terms.baseline_ratio).sum())
            tokens = float((terms.mass * terms.baseline_length).sum())
            values |= {
                "baseline_ratio": ratio / totals.mass,
                "baseline_ratio_per_token": ratio / tokens,
                "nll_per_token": -float((terms.mass * terms.baseline_logps).sum()) / tokens,
            }
    return values
