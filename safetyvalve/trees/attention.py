"""Attention over a packed row, tree by tree, plugged into any transformers model that allows it.

The row's plan travels in the place of the attention mask: transformers asks the registered mask function for a
mask, telling it the layers' rule (causal, a sliding window, chunks), gets plan and rule back, and hands them to those
layers unread. They thus also reach layers that are recomputed in the backward pass under gradient checkpointing, and
two threads do not share state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from safetyvalve.errors import EngineError
from safetyvalve.trees.copies import kept_copies
from safetyvalve.trees.flex import block_mask, flex_row
from safetyvalve.trees.kernel import arithmetic_dtype, attend
from safetyvalve.trees.plan import PackedRow, PositionRule
from safetyvalve.trees.support import refusal
from safetyvalve.trees.tiles import Tiling, tiles

__all__ = ["Kernel", "current_row", "tiles_of_mask", "tree_attention"]

Kernel = Literal["matrix", "flex"]
_NAMES: dict[Kernel, str] = {"matrix": "safetyvalve_tree", "flex": "safetyvalve_flex"}
"""Under which transformers knows them."""

_UNSUPPORTED = ("position_bias", "head_mask", "alibi")
"""Arguments that change the attention's result in some models."""

_current: ContextVar[PackedRow | None] = ContextVar("safetyvalve_packed_row", default=None)


@dataclass(frozen=True, eq=False)
class _LayerMask:
    """What a layer is given for a mask: the row, and what the layer lets a token of one sequence see."""

    row: PackedRow
    rule: PositionRule
    _tiles: dict[torch.dtype, Tiling] = field(default_factory=dict)

    def tiles(self, dtype: torch.dtype) -> Tiling:
        """Of every tree; made once, though every layer asks for them."""
        if dtype not in self._tiles:
            self._tiles[dtype] = Tiling(tiles(segment, self.rule, dtype) for segment in self.row.segments)
        return self._tiles[dtype]

    @cached_property
    def allowed(self) -> list[Tensor]:
        """bool [query, key] of every tree."""
        return [segment.allowed(self.rule) for segment in self.row.segments]

    @cached_property
    def blocks(self) -> BlockMask:
        return block_mask(self.row, self.rule)


def tiles_of_mask(mask: Any, dtype: torch.dtype) -> Tiling:
    """Tiles of every tree by what a layer was given for a mask."""
    assert isinstance(mask, _LayerMask)
    return mask.tiles(dtype)


def _plan_as_mask(*_: Any, mask_function: PositionRule, **__: Any) -> _LayerMask | None:
    row = _current.get()
    return None if row is None else _LayerMask(row, mask_function)


def _tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: _LayerMask | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query [1, head, token, dim], key and value [1, kv head, token, dim] -> [1, token, head, dim].

    A window among ``others`` is for kernels that get no mask; here the mask has it.
    """
    mask = _checked(module, attention_mask, others)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    dropout = dropout if module.training else 0.0
    if softcap is None and s_aux is None and not dropout:
        dtype = arithmetic_dtype(query)
        query, key, value = (states[0].to(dtype) for states in (query, key, value))
        return attend(query, key, value, mask.tiles(dtype), scaling)[None], None
    parts = [
        _one_tree(
            query[:, :, s.start : s.stop],
            s.seen(key),
            s.seen(value),
            allowed,
            scaling,
            softcap,
            s_aux,
            dropout,
        )
        for s, allowed in zip(mask.row.segments, mask.allowed, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _flex_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: _LayerMask | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As :func:`_tree_attention`, the whole row at once by FlexAttention."""
    mask = _checked(module, attention_mask, others)
    if others.get("s_aux") is not None or (dropout and module.training):
        raise EngineError(
            f"{type(module).__name__} uses attention sinks or dropout, which the flex kernel does not have. Use the "
            "matrix kernel."
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return flex_row(query, key, value, mask.blocks, scaling=scaling, softcap=softcap).transpose(1, 2).contiguous(), None


def _checked(module: nn.Module, mask: _LayerMask | None, others: dict[str, Any]) -> _LayerMask:
    if not isinstance(mask, _LayerMask):
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
    return mask


def _one_tree(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    scaling: float,
    softcap: float | None,
    sinks: Tensor | None,
    dropout: float,
) -> Tensor:
    """What the tiles do not do: soft caps, sinks and dropout, on the whole square of a tree.

    [1, head, token, dim] with keys and values [1, key head, key, dim] in, [1, head, token, value dim] out; ``sinks``
    [head] are scores that draw weight away.
    """
    batch, heads, tokens, dim = query.shape
    groups, keys = key.shape[1:3]
    # Heads that share keys are stacked along the token axis: one product a key head, nothing repeated.
    stacked = query.reshape(batch, groups, heads // groups * tokens, dim)
    scores = (stacked * scaling) @ key.transpose(-1, -2)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(batch, groups, heads // groups, tokens, keys).masked_fill(~allowed, float("-inf"))
    if sinks is not None:
        column = sinks.view(1, groups, heads // groups, 1, 1).expand(batch, -1, -1, tokens, 1)
        scores = torch.cat([scores, column.to(scores.dtype)], dim=-1)
    accurate = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, dim=-1, dtype=accurate)[..., :keys].to(value.dtype)
    if dropout:
        weights = F.dropout(weights, dropout)
    out = weights.reshape(batch, groups, heads // groups * tokens, keys) @ value
    return out.view(batch, heads, tokens, value.shape[-1])


AttentionInterface.register(_NAMES["matrix"], _tree_attention)
AttentionInterface.register(_NAMES["flex"], _flex_attention)
for _name in _NAMES.values():
    AttentionMaskInterface.register(_name, _plan_as_mask)


@contextmanager
def tree_attention(model: PreTrainedModel, *, kernel: Kernel = "matrix") -> Iterator[None]:
    """Within it the model attends by trees; its own attention is restored afterwards.

    :func:`safetyvalve.trees.response_logps` enters it by itself. Enter it around forward *and* backward when
    layers are recomputed in the backward pass, around several micro-batches, or to choose the kernel. The weights must
    not change within it. Nesting is harmless: the outermost counts.

    Args:
        model: any that takes its attention from the registry of transformers.
        kernel: ``matrix`` multiplies tree by tree, fastest on CPUs; ``flex`` gives FlexAttention the row's plan as a
            block mask. ``flex`` is meant for GPUs; its forward is held exact on the CPU, its backward pass was never
            run, and neither was timed.

    Raises:
        EngineError: the shared-prefix forward cannot be exact for the model.
    """
    before = str(model.config._attn_implementation)
    if before in _NAMES.values():
        yield
        return
    if reason := refusal(model):
        raise EngineError(
            f"{type(model).__name__} {reason}, so the shared-prefix forward is not available for it. Use --engine "
            "padded."
        )
    model.set_attn_implementation(_NAMES[kernel])
    try:
        with kept_copies():
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
