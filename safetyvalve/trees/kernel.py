"""Attention of a packed row with its own backward pass: few passes over the scores, no copies of slices.

Autograd through slices, masks and scalings costs more than the products themselves on trees of some hundred tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from safetyvalve.native import kernels
from safetyvalve.native.calls import call
from safetyvalve.trees.tiles import Tile, Tiling

__all__ = ["Grouping", "arithmetic_dtype", "attend", "attend_row", "attend_row_backward"]

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
        with torch.autocast(query.device.type, enabled=False):
            out, kept = _attend_forward(query, key, value, trees, scaling, keep=ctx.needs_input_grad[0])
        ctx.save_for_backward(query, key, value, *(w for w in kept if w is not None))
        ctx.has = [w is not None for w in kept]
        ctx.trees, ctx.scaling = trees, scaling
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, *saved = ctx.saved_tensors
        weights = iter(saved)
        kept = [next(weights) if has else None for has in ctx.has]
        grads = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
        with torch.autocast(query.device.type, enabled=False):
            _attend_backward(upstream, query, key, value, ctx.trees, ctx.scaling, kept, grads)
        return *grads, None, None


class Grouping(NamedTuple):
    """How the values of a token are divided into heads: queries first, then keys, then values."""

    heads: int
    key_heads: int
    width: int
    """Of a head."""
    scaling: float
    """Of the scores."""

    @property
    def turned(self) -> int:
        """Heads of queries and keys."""
        return self.heads + self.key_heads

    def views(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[head, token, width] of query, key and value."""
        split = qkv.view(len(qkv), -1, self.width).transpose(0, 1)
        query, key, value = split.split([self.heads, self.key_heads, self.key_heads])
        return query, key, value

    def as_given(self, qkv: Tensor) -> tuple[Tensor | int | float, ...]:
        return qkv, *qkv.shape, self.heads, self.key_heads, self.width, float(self.scaling)

    def by_tiles(self, qkv: Tensor) -> bool:
        """Whether the kernel for AMX takes it."""
        sizes = self.width in (32, 64, 96, 128) and self.scaling > 0
        return qkv.dtype == torch.bfloat16 and sizes and kernels().tiles

    def fits(self, qkv: Tensor) -> bool:
        """Whether a kernel takes it."""
        kinds = qkv.dtype in (torch.float32, torch.bfloat16) and qkv.device.type == "cpu"
        return kinds and self.width % 32 == 0 and kernels().library is not None


def attend_row(qkv: Tensor, grouping: Grouping, tiling: Tiling, *, keep: bool) -> tuple[Tensor, list[Tensor | None]]:
    """Softmax attention within the tiles, without autograd.

    Args:
        qkv: [token, values of all heads], contiguous.
        grouping: of these values.
        tiling: of the row.
        keep: what the backward pass wants to be told.

    Returns:
        [token, heads x width], and what is kept.
    """
    if grouping.fits(qkv):
        out = qkv.new_empty(len(qkv), grouping.heads * grouping.width)
        # The kernel for AMX keeps the logarithm of each sum only.
        sums = qkv.new_empty(2, grouping.heads, len(qkv), dtype=torch.float32) if keep else None
        _call("forward", grouping, qkv, tiling, out, sums)
        return out, [sums]
    out, kept = _attend_forward(*grouping.views(qkv), tiling, grouping.scaling, keep=keep)
    return out.view(len(qkv), -1), kept


def attend_row_backward(
    upstream: Tensor,
    qkv: Tensor,
    attended: Tensor,
    grouping: Grouping,
    tiling: Tiling,
    kept: Sequence[Tensor | None],
) -> Tensor:
    """Gradient of ``qkv`` from that of :func:`attend_row`'s result ``attended``."""
    grad = torch.empty_like(qkv)
    if grouping.fits(qkv):
        _call("backward", grouping, qkv, tiling, attended, kept[0], upstream.contiguous(), grad)
        return grad
    upstream = upstream.view(len(qkv), grouping.heads, -1)
    _attend_backward(upstream, *grouping.views(qkv), tiling, grouping.scaling, kept, grouping.views(grad))
    return grad


def _call(way: str, grouping: Grouping, qkv: Tensor, tiling: Tiling, *others: Tensor | None) -> None:
    given = (*grouping.as_given(qkv), len(tiling.table.tiles), *tiling.table, *others)
    if grouping.by_tiles(qkv):
        failed = call(f"sv_attend_tiles_{way}", *given)
    else:
        failed = call(f"sv_attend_{way}", *given, int(qkv.dtype == torch.bfloat16))
    if failed:
        raise MemoryError(f"no memory for the attention of a row of {len(qkv)} tokens.")


def _attend_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    trees: tuple[tuple[Tile, ...], ...],
    scaling: float,
    *,
    keep: bool,
) -> tuple[Tensor, list[Tensor | None]]:
    """:func:`attend` without autograd, and each tile's weights where ``keep`` and :data:`KEPT_TOKENS` allow."""
    out = value.new_empty(query.shape[1], query.shape[0], value.shape[2])
    kept: list[Tensor | None] = []
    for tree in trees:
        short = tree[-1].stop - tree[0].start <= KEPT_TOKENS
        for tile in tree:
            weights = _weights(_stacked(query, tile, len(key)) * scaling, tile.gather(key), tile.bias)
            part = weights @ tile.gather(value)
            out[tile.start : tile.stop] = _unstacked(part, tile, len(query)).transpose(0, 1)
            kept.append(weights if keep and short else None)
    return out, kept


def _attend_backward(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    trees: tuple[tuple[Tile, ...], ...],
    scaling: float,
    kept: Sequence[Tensor | None],
    grads: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Gradients of query, key and value into ``grads``, shaped as they are; the rest as :func:`_attend_forward`."""
    grad_query, grad_key, grad_value = grads
    groups = len(key)
    # Several tiles add to a key: in bf16 each sum would lose digits.
    wide = torch.promote_types(key.dtype, torch.float32)
    sum_key, sum_value = (torch.zeros(s.shape, dtype=wide, device=s.device) for s in (key, value))
    upstream = upstream.transpose(0, 1)
    for tile, own in zip((t for tree in trees for t in tree), kept, strict=True):
        rows, keys = _stacked(query, tile, groups) * scaling, tile.gather(key)
        weights = _weights(rows, keys, tile.bias) if own is None else own
        above = _stacked(upstream, tile, groups)
        tile.scatter_add(sum_value, weights.transpose(1, 2) @ above)
        slope = above @ tile.gather(value).transpose(1, 2)
        slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
        part = (slope @ keys).mul_(scaling)
        grad_query[:, tile.start : tile.stop] = _unstacked(part, tile, len(query))
        tile.scatter_add(sum_key, slope.transpose(1, 2) @ rows)
    grad_key.copy_(sum_key)
    grad_value.copy_(sum_value)


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
