"""How the trainer and its meters compute log-probabilities: one value object, so that all do it alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.training.objective import ReferencedExample
from safetyvalve.trees import Engine, Tree, pack_by_budget, response_logps

__all__ = ["Forward"]


@dataclass(frozen=True)
class Forward:
    """Engine, micro-batch size and arithmetic."""

    engine: Engine = "tree"
    token_budget: int = 2048
    """Tokens of a micro-batch."""
    autocast: torch.dtype | None = None
    """The type to compute in, or None for the parameters' own."""

    def arithmetic(self, model: PreTrainedModel) -> torch.autocast:
        """The context in which a forward of ``model`` runs."""
        return torch.autocast(model.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    def sums(self, model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
        """[response] log-probabilities of one micro-batch, in nats, with the graph."""
        with self.arithmetic(model):
            return response_logps(model, trees, engine=self.engine).sums()

    def split(self, examples: Sequence[ReferencedExample]) -> list[list[ReferencedExample]]:
        """Micro-batches whose trees hold at most the budget; a larger tree gets one of its own."""
        groups = pack_by_budget([e.tree.n_tokens for e in examples], self.token_budget)
        return [[examples[i] for i in group] for group in groups]
