"""How the trainer and its meters compute log-probabilities: one value object, so that all do it alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.training.objective import ReferencedExample
from safetyvalve.training.optimization import Optimization
from safetyvalve.trees import (
    Engine,
    Tree,
    pack_by_budget,
    recomputed_layers,
    response_logps,
    tokens_computed,
    tree_attention,
)

__all__ = ["Forward"]


@dataclass(frozen=True)
class Forward:
    """Engine, micro-batch size and arithmetic."""

    engine: Engine = "tree"
    token_budget: int = 2048
    """Tokens of a micro-batch."""
    autocast: torch.dtype | None = None
    """The type to compute in, or None for the parameters' own."""
    recompute: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, more time."""

    @classmethod
    def of(cls, engine: Engine, o: Optimization) -> Forward:
        """As a run's settings say it, with the engine that was found exact."""
        return cls(engine, o.token_budget, o.autocast, recompute=o.memory == "low")

    def arithmetic(self, model: PreTrainedModel) -> torch.autocast:
        """The context in which a forward of ``model`` runs."""
        return torch.autocast(model.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    @contextmanager
    def attention(self, model: PreTrainedModel) -> Iterator[None]:
        """What a forward and its backward of ``model`` need; entered around both."""
        with ExitStack() as stack:
            if self.engine == "tree":
                stack.enter_context(tree_attention(model))
            if self.recompute:
                stack.enter_context(recomputed_layers(model))
            yield

    def sums(self, model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
        """[response] log-probabilities of one micro-batch, in nats, with the graph."""
        with self.arithmetic(model):
            return response_logps(model, trees, engine=self.engine).sums()

    def split(self, examples: Sequence[ReferencedExample]) -> list[list[ReferencedExample]]:
        """Micro-batches of at most the budget; a larger tree gets one of its own."""
        return [[examples[i] for i in group] for group in self.groups([e.tree for e in examples])]

    def groups(self, trees: Sequence[Tree]) -> list[list[int]]:
        """Indices of the trees that are computed together."""
        return pack_by_budget([tokens_computed(t, self.engine) for t in trees], self.token_budget)
