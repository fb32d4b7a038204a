"""Floating-point operations that the log-probabilities of trees need, counted from tokens and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from safetyvalve.trees.plan import PackedRow, Tree, pack_row

__all__ = ["Work", "work_of"]


class Work(NamedTuple):
    """Operations of one forward pass; a multiplication with its addition counts as two."""

    layers: int
    """The layers' matrices on the tokens that the row computes."""
    attention: int
    """Both products of the attention, for the pairs of tokens that see each other."""
    head: int
    """The output embedding on the positions that predict a response token."""

    @property
    def forward(self) -> int:
        return self.layers + self.attention + self.head

    @property
    def training(self) -> int:
        """Forward and backward, which takes two products for each of the forward's; nothing is computed again."""
        return 3 * self.forward


def work_of(model: PreTrainedModel, trees: Sequence[Tree]) -> Work:
    """Of one row of trees by the shared-prefix forward, for models whose every matrix meets every token (no experts).

    Windows narrower than a tree are not taken off.
    """
    row = pack_row(trees, shared=True, ends=False)
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pair = 2 * 2 * config.num_attention_heads * width * config.num_hidden_layers
    return Work(
        layers=2 * matrices * len(row.input_ids),
        attention=pair * _visible_pairs(row),
        head=2 * config.vocab_size * config.hidden_size * len(row.target),
    )


def _visible_pairs(row: PackedRow) -> int:
    return sum(int(s.allowed().sum()) for s in row.segments)
