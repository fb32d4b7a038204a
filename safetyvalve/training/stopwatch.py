"""The parts that a timed run is made of: a stopwatch for a progress bar, a sampled reference pass, a scratch folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.training.baseline import SftPool
from safetyvalve.training.folder import RunFolder, SavesPretrained
from safetyvalve.training.forward import Forward
from safetyvalve.training.objective import ReferencedExample
from safetyvalve.training.progress import Progress
from safetyvalve.trees import Engine, ReferenceCache, Tree, pack_by_budget, tokens_computed

__all__ = ["SampledReference", "Scratch", "Stopwatch", "batch_tokens"]

REFERENCE_GROUPS = 3
"""Micro-batches of the reference pass that are timed, without the first."""


class SampledReference(ReferenceCache):
    """Times the reference pass on some of its micro-batches, and makes up the rest of its numbers.

    Args:
        found: what :meth:`compared` of the run's own cache says.
    """

    def __init__(self, found: str | None = None) -> None:
        super().__init__(None)
        self.found = found
        self.seconds = 0.0
        self.per_token = 0.0

    def sums(
        self,
        model: PreTrainedModel,
        trees: Sequence[Tree],
        *,
        engine: Engine,
        token_budget: int,
        autocast: torch.dtype | None = None,
        progress: Callable[[int, int], None] | None = None,
        compared: str | None = None,
    ) -> list[Tensor]:
        begun = time.perf_counter()
        sizes = [tokens_computed(t, engine) for t in trees]
        groups = pack_by_budget(sizes, token_budget)
        spread = sorted({round(i * (len(groups) - 1) / REFERENCE_GROUPS) for i in range(REFERENCE_GROUPS + 1)})
        known: dict[int, Tensor] = {}
        rates = []
        for index in spread:
            group, start = groups[index], time.perf_counter()
            found = super().sums(
                model, [trees[i] for i in group], engine=engine, token_budget=token_budget, autocast=autocast
            )
            rates.append((time.perf_counter() - start) / sum(sizes[i] for i in group))
            known.update(zip(group, found, strict=True))
        self.per_token = median(rates[1:] or rates)
        self.seconds = time.perf_counter() - begun
        typical = sum(float(s.sum()) for s in known.values()) / sum(
            len(r) for i in known for r in trees[i].response_ids
        )
        return [
            known[i] if i in known else torch.tensor([typical * len(r) for r in t.response_ids])
            for i, t in enumerate(trees)
        ]

    def compared(
        self, model: PreTrainedModel, trees: Sequence[Tree], *, autocast: torch.dtype | None = None
    ) -> str | None:
        return self.found


class Scratch(RunFolder):
    def save_model(self, *parts: SavesPretrained, name: str = "model") -> None:
        """Nothing: the model is thrown away."""


class Stopwatch(Progress):
    """Hears from a run what it begins and ends, times it, and stops it after ``steps`` steps."""

    def __init__(self, forward: Forward, steps: int, pool: SftPool | None = None) -> None:
        super().__init__(enabled=False)
        self.forward, self.steps, self.pool = forward, steps, pool
        self.evaluations: list[float] = []
        """Seconds of the one before the first step and of the one after the last."""
        self.taken: list[float] = []
        """Seconds of each step."""
        self.tokens_per_second: list[float] = []
        """Of forward and backward of each step."""
        self.heaviest = 0.0
        """Seconds of the heaviest micro-batch, run apart."""
        self.batches: list[list[ReferencedExample]] = []
        """All steps of the whole run, in order."""
        self._step: float | None = None
        self._evaluation = 0.0

    @property
    def seconds(self) -> float:
        return sum(self.evaluations) + sum(self.taken) + self.heaviest

    def step_seconds(self, tokens: float) -> float:
        """Of a step that computes ``tokens`` tokens: forward and backward grow with them, the optimizer does not."""
        batches = self.batches[: len(self.taken)]
        spent = [
            sum(e.tree.n_tokens for e in b) / rate for b, rate in zip(batches, self.tokens_per_second, strict=True)
        ]
        timed = slice(1, None) if len(self.taken) > 1 else slice(None)
        per_token = median([s / batch_tokens(b, self.forward) for s, b in zip(spent, batches, strict=True)][timed])
        rest = median([whole - s for whole, s in zip(self.taken, spent, strict=True)][timed])
        return per_token * tokens + rest

    def steps_seconds(self) -> float:
        """Of all steps of the run: those taken as long as they took, which was longer while memory was new."""
        later = [batch_tokens(batch, self.forward) for batch in self.batches[len(self.taken) :]]
        return sum(self.taken) + (len(later) * self.step_seconds(mean(later)) if later else 0.0)

    def note(self, text: str) -> None:
        if text == "measuring":
            self.end_step()
            self._evaluation = time.perf_counter()

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        self.evaluations.append(time.perf_counter() - self._evaluation)

    def callback(self) -> TrainerCallback:
        return _Watch(self)

    def begin_step(self) -> None:
        self._step = time.perf_counter()

    def end_step(self) -> None:
        if self._step is not None:
            self.taken.append(time.perf_counter() - self._step)
            self._step = None

    def plan(self, loader: Any, steps: int) -> None:
        """Read the order of the whole run from its own loader."""
        epoch = 0
        while len(self.batches) < steps:
            loader.set_epoch(epoch)
            self.batches += list(loader.base_dataloader)
            epoch += 1
        del self.batches[steps:]
        if self.pool is not None:
            self.batches = [[*batch, *self.pool.draw(step)] for step, batch in enumerate(self.batches)]

    def run_heaviest(self, model: PreTrainedModel) -> None:
        """Forward and backward of the run's heaviest micro-batch, if no step so far was as heavy."""
        begun = time.perf_counter()
        weights = [[(batch_tokens(g, self.forward), g) for g in self.forward.split(b)] for b in self.batches]
        seen = max(w for groups in weights[: len(self.taken)] for w, _ in groups)
        weight, group = max((pair for groups in weights for pair in groups), key=lambda pair: pair[0])
        if weight > seen:
            with self.forward.attention(model):
                self.forward.sums(model, [e.tree for e in group]).sum().backward()
            model.zero_grad()
        self.heaviest = time.perf_counter() - begun


class _Watch(TrainerCallback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watch.begin_step()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watch.end_step()
        if state.global_step >= self.watch.steps:
            control.should_training_stop = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if logs and "tokens_per_second" in logs:
            self.watch.tokens_per_second.append(logs["tokens_per_second"])

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watch.plan(kwargs["train_dataloader"], state.max_steps)
        self.watch.run_heaviest(kwargs["model"])


def batch_tokens(examples: Sequence[ReferencedExample], forward: Forward) -> int:
    """Tokens that a forward of these examples computes."""
    return sum(tokens_computed(e.tree, forward.engine) for e in examples)
