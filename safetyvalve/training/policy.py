"""The policy trainer: transformers' loop, our objective and our forward."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn
from transformers import Trainer

from safetyvalve.errors import NonFiniteLossError, UsageError
from safetyvalve.training.baseline import SftPool
from safetyvalve.training.checkpoints import publish, staging
from safetyvalve.training.disk import explain_full_disk
from safetyvalve.training.forward import Forward
from safetyvalve.training.multiplier import DisplacementMultiplier
from safetyvalve.training.objective import Objective, ReferencedExample, Terms, Totals

__all__ = ["Constraint", "PolicyTrainer", "resident_gib", "step_meters"]


def resident_gib() -> float:
    """Memory of this process that is resident now, in GiB."""
    return float(psutil.Process().memory_info().rss) / 2**30


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


class PolicyTrainer(Trainer):
    """A :class:`transformers.Trainer` whose step covers a fixed number of prompts.

    ``args.per_device_train_batch_size`` is that number. The step is split into micro-batches by a token budget and
    normalised by the whole step's totals, so that any split gives the same gradient.

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
        super().__init__(data_collator=lambda batch: batch, **kwargs)
        if self.args.world_size > 1 or self.args.n_gpu > 1:
            raise UsageError(
                f"{self.args.world_size} processes with {self.args.n_gpu} GPUs each were started; this version trains "
                "in one process on one device. Start one, and set CUDA_VISIBLE_DEVICES to one GPU."
            )
        if self.args.gradient_accumulation_steps != 1:
            raise UsageError(
                f"gradient_accumulation_steps is {self.args.gradient_accumulation_steps}; a step is split by the token "
                "budget instead. Set it to 1 and put the prompts of a step into per_device_train_batch_size."
            )
        self.objective, self.forward, self.sft_pool = objective, forward, sft_pool
        self.constraint = constraint
        self._meters: dict[str, float] = {}

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
            for group in self.forward.split(inputs):
                terms = self.terms(group, totals)
                part = terms.loss(totals)
                _refuse_non_finite(part, group, self.state.global_step)
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

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the meters of the last step to what the Trainer logs for it."""
        if "loss" in logs:
            logs |= self._meters
        super().log(logs, start_time)

    @property
    def meters(self) -> Mapping[str, float]:
        """Of the last step, by the names of docs/metrics.md."""
        return self._meters

    def publish(self, values: Mapping[str, float]) -> None:
        """Tell the tracking integrations of an evaluation, under ``eval_`` names, at the current step.

        Not :meth:`log`: called from a callback, it would cancel the step's own log.
        """
        logs = {f"eval_{name}": value for name, value in values.items()}
        self.callback_handler.call_event("on_log", self.args, self.state, self.control, logs=logs)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The Trainer asks for it before the optimizer moves anything: the last moment to stop."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            raise NonFiniteLossError(
                f"the gradient's norm is {float(norm)} at step {self.state.global_step + 1} although the loss is "
                "finite. The weights were not changed by this step. Lower --learning-rate, or use --precision fp32."
            )
        return norm

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As the Trainer's, but a checkpoint is whole or not there, and a full disk leaves the one before."""
        folder = Path(str(self.args.output_dir))
        partial = staging(folder)
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        self.args.output_dir = str(partial)  # where the Trainer takes the place of a checkpoint from
        try:
            with explain_full_disk(folder, f"the checkpoint of step {self.state.global_step}"):
                super()._save_checkpoint(model, trial)
                if self.constraint is not None:
                    self.constraint.multiplier.save(partial / f"checkpoint-{self.state.global_step}")
                publish(partial / f"checkpoint-{self.state.global_step}", folder, keep=limit)
        finally:
            self.args.output_dir, self.args.save_total_limit = str(folder), limit
            shutil.rmtree(partial, ignore_errors=True)

    def floating_point_ops(self, inputs: Any) -> int:
        """Zero: the Trainer's count is for padded batches and would be wrong for trees."""
        return 0


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


def _refuse_non_finite(loss: Tensor, group: Sequence[ReferencedExample], step: int) -> None:
    if bool(torch.isfinite(loss)):
        return
    ids = tuple(e.tokens.id for e in group)
    raise NonFiniteLossError(
        f"the loss is {loss.item()} at step {step + 1}, in the micro-batch of the examples {', '.join(ids)}. "
        "The weights were not changed by this step. Look at these examples with `safetyvalve data check`, and lower "
        "--learning-rate or raise --beta if they are sound.",
        example_ids=ids,
    )
