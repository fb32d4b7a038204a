"""Attention over a packed row, tree by tree, plugged into any transformers model that allows it.

The row's plan travels in the place of the attention mask: transformers asks the registered mask function for a
mask, gets the plan, and hands it to every layer unread. It thus also reaches layers that are recomputed in the
backward pass under gradient checkpointing, and two threads do not share state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from safetyvalve.errors import EngineError
from safetyvalve.trees.plan import PackedRow

__all__ = ["NAME", "current_row", "tree_attention"]

NAME = "safetyvalve_tree"
_MATRIX_LIMIT = 768
"""Longest tree, in tokens, whose scores are held as one matrix: on CPUs that beats SDPA with a mask."""

_UNSAID: Any = object()
_UNSUPPORTED = ("s_aux", "position_bias", "head_mask", "alibi")
"""Arguments that change the attention's result in some models."""

_current: ContextVar[PackedRow | None] = ContextVar("safetyvalve_packed_row", default=None)


def _plan_as_mask(*_: Any, **__: Any) -> PackedRow | None:
    return _current.get()


def _tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: PackedRow | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = _UNSAID,
    **others: Any,
) -> tuple[Tensor, None]:
    """query [1, head, token, dim], key and value [1, kv head, token, dim] -> [1, token, head, dim]."""
    if not isinstance(attention_mask, PackedRow):
        raise EngineError(
            f"{type(module).__name__} did not pass the packed row on to its attention, so the shared-prefix forward "
            "cannot be exact for this model. Use --engine padded."
        )
    for name in _UNSUPPORTED:
        if others.get(name) is not None:
            raise EngineError(
                f"{type(module).__name__} passes '{name}' to its attention, which the shared-prefix forward does not "
                "know. Use --engine padded."
            )
    if sliding_window is _UNSAID:
        # Some models set the window on the layer and leave it out of the call; None in the call means no window.
        sliding_window = getattr(module, "sliding_window", None)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = [
        _one_tree(
            query[:, :, s.start : s.stop],
            key[:, :, s.start : s.stop],
            value[:, :, s.start : s.stop],
            s.allowed(sliding_window),
            scaling,
            softcap,
            dropout if module.training else 0.0,
        )
        for s in attention_mask.segments
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _one_tree(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, scaling: float, softcap: float | None, dropout: float
) -> Tensor:
    """[1, head, token, dim] in, the same out."""
    if softcap is None and query.shape[2] > _MATRIX_LIMIT:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, dropout_p=dropout, scale=scaling, enable_gqa=True
        )
    batch, heads, tokens, dim = query.shape
    groups = key.shape[1]
    # Heads that share keys are stacked along the token axis: one product a key head, nothing repeated.
    stacked = query.reshape(batch, groups, heads // groups * tokens, dim)
    scores = (stacked * scaling) @ key.transpose(-1, -2)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(batch, groups, heads // groups, tokens, tokens).masked_fill(~allowed, float("-inf"))
    accurate = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, dim=-1, dtype=accurate).to(value.dtype)
    if dropout:
        weights = F.dropout(weights, dropout)
    out = weights.view(batch, groups, heads // groups * tokens, tokens) @ value
    return out.view(batch, heads, tokens, dim)


AttentionInterface.register(NAME, _tree_attention)
AttentionMaskInterface.register(NAME, _plan_as_mask)


@contextmanager
def tree_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model attends by trees; its own attention is restored afterwards.

    :func:`safetyvalve.trees.response_logps` enters it by itself. Enter it around forward *and* backward when
    layers are recomputed in the backward pass (gradient checkpointing). Nesting is harmless.

    Raises:
        EngineError: the model does not take its attention from the registry.
    """
    before = str(model.config._attn_implementation)
    if before == NAME:
        yield
        return
    if not model._can_set_attn_implementation():
        raise EngineError(
            f"{type(model).__name__} does not take its attention from the registry of transformers, so the "
            "shared-prefix forward is not available for it. Use --engine padded."
        )
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def current_row(row: PackedRow) -> Iterator[None]:
    """Within it a forward of a model under :func:`tree_attention` attends by ``row``."""
    token = _current.set(row)
    try:
        yield
    finally:
        _current.reset(token)
