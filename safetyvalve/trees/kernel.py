"""Attention of a packed row with its own backward pass: few passes over the scores, no copies of slices.

Autograd through slices, masks and scalings costs more than the products themselves on trees of some hundred tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from safetyvalve.trees.tiles import Tile

__all__ = ["arithmetic_dtype", "attend"]

KEPT_TOKENS = 768
"""Tokens of a tree up to which the attention weights stay for the backward pass; longer ones are computed again, so
that memory grows with the tokens and not with their square."""


def arithmetic_dtype(states: Tensor) -> torch.dtype:
    """What autograd's own products would compute in: that of autocast, which leaves fp64 alone, or the states' own."""
    kind = states.device.type
    autocast = torch.is_autocast_enabled(kind) and states.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if autocast else states.dtype


def attend(query: Tensor, key: Tensor, value: Tensor, trees: tuple[tuple[Tile, ...], ...], scaling: float) -> Tensor:
    """Softmax attention within the tiles.

    Args:
        query: [head, token, dim].
        key: [key head, token, dim]; the number of heads is a multiple of the key heads, as in grouped attention.
        value: [key head, token, value dim].
        trees: tiles of each tree of the row; they cover every query token once.
        scaling: of the scores.

    Returns:
        [token, head, value dim], differentiable once.
    """
    out: Tensor = _Attention.apply(query, key, value, trees, scaling)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, trees: tuple[tuple[Tile, ...], ...], scaling: float
    ) -> Tensor:
        out = value.new_empty(query.shape[1], query.shape[0], value.shape[2])
        kept: list[Tensor | None] = []
        with torch.autocast(query.device.type, enabled=False):
            for tree in trees:
                keep = ctx.needs_input_grad[0] and tree[-1].stop - tree[0].start <= KEPT_TOKENS
                for tile in tree:
                    weights = _weights(_stacked(query, tile, len(key)) * scaling, tile.gather(key), tile.bias)
                    part = weights @ tile.gather(value)
                    out[tile.start : tile.stop] = _unstacked(part, tile, len(query)).transpose(0, 1)
                    kept.append(weights if keep else None)
        ctx.save_for_backward(query, key, value, *(w for w in kept if w is not None))
        ctx.has = [w is not None for w in kept]
        ctx.trees, ctx.scaling = trees, scaling
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, *saved = ctx.saved_tensors
        groups, kept = len(key), iter(saved)
        grad_query = torch.empty_like(query)
        # Several tiles add to a key: in bf16 each sum would lose digits.
        wide = torch.promote_types(key.dtype, torch.float32)
        grad_key, grad_value = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        upstream = upstream.transpose(0, 1)
        with torch.autocast(query.device.type, enabled=False):
            for tile, has in zip((t for tree in ctx.trees for t in tree), ctx.has, strict=True):
                rows, keys = _stacked(query, tile, groups) * ctx.scaling, tile.gather(key)
                weights = next(kept) if has else _weights(rows, keys, tile.bias)
                above = _stacked(upstream, tile, groups)
                tile.scatter_add(grad_value, weights.transpose(1, 2) @ above)
                slope = above @ tile.gather(value).transpose(1, 2)
                slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
                part = (slope @ keys).mul_(ctx.scaling)
                grad_query[:, tile.start : tile.stop] = _unstacked(part, tile, len(query))
                tile.scatter_add(grad_key, slope.transpose(1, 2) @ rows)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def _stacked(states: Tensor, tile: Tile, groups: int) -> Tensor:
    """[head, token, dim] -> [key head, heads of it x query, dim]: one product a key head, no key repeated."""
    part = states[:, tile.start : tile.stop]
    return part.reshape(groups, -1, part.shape[-1])


def _unstacked(part: Tensor, tile: Tile, heads: int) -> Tensor:
    return part.view(heads, tile.stop - tile.start, part.shape[-1])


def _weights(rows: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """[key head, heads of it x query, key], rows summing to 1; the sums are taken in fp32 also in bf16."""
    scores = rows @ keys.transpose(1, 2)
    scores.view(len(scores), -1, *bias.shape).add_(bias)
    return torch.softmax(scores, dim=-1)
