"""A decoder layer (RMS norm, attention, RMS norm, gated MLP) as one function with its own backward pass.

What autograd does for such a layer is some sixty passes over its values, a third of them casts, and it keeps a copy of
most. Written out there are about half as many, in place where nothing else reads the values, the products of equal
inputs are one product, and what is kept for the backward pass is what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from safetyvalve.trees.kernel import attend_backward, attend_forward
from safetyvalve.trees.tiles import Tile

__all__ = ["Matrices", "Plan", "decode"]


_TURNED_ROWS = 64
"""Rows that are transposed at a time: a cache line of the result."""


class Matrices(NamedTuple):
    """A layer's matrices in the type that is computed in, each [out, in].

    Those with one input stand together: as one matrix where they are copies anyway, as several where they are the
    parameters themselves.
    """

    qkv: tuple[Tensor, ...]
    bias: Tensor | None
    """[query, key and value widths]: of query, key and value."""
    out: Tensor
    gate_up: tuple[Tensor, ...]
    down: Tensor


class Plan(NamedTuple):
    """What a layer's function is told besides its input and parameters."""

    matrices: Matrices
    heads: int
    key_heads: int
    scaling: float
    eps: tuple[float, float]
    """Of the norms before attention and before the MLP."""
    tiles: tuple[tuple[Tile, ...], ...]
    cos: Tensor
    """[token, 1, half of a head's width], as ``sin``."""
    sin: Tensor
    at: Tensor | None
    """int64 [token]: the only tokens whose output is wanted, each once; None for all."""
    recompute: bool
    """Keep the input only, and compute the rest again in the backward pass."""


def decode(plan: Plan, hidden: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The layer's output.

    Args:
        plan: see there.
        hidden: [token, hidden], fp32.
        parameters: weights of the two norms; query, key, value, output, gate, up and down matrices; and the biases of
            query, key and value, where there are any. They receive the gradients.

    Returns:
        [token, hidden], or [wanted token, hidden] with ``plan.at``; differentiable once.
    """
    out: Tensor = _Layer.apply(plan, hidden, *parameters)  # type: ignore[no-untyped-call]
    return out


class _Kept(NamedTuple):
    """Values that the backward pass reads."""

    hidden: Tensor
    root_1: Tensor
    normed_1: Tensor
    qkv: Tensor
    attended: Tensor
    middle: Tensor
    root_2: Tensor
    normed_2: Tensor
    gate_up: Tensor
    silu: Tensor
    gated: Tensor


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, hidden: Tensor, *parameters: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad) and not plan.recompute
        with torch.autocast(hidden.device.type, enabled=False):
            out, kept, weights = _forward(plan, hidden, parameters[0], parameters[1], keep=keep)
        ctx.plan, ctx.has = plan, [w is not None for w in weights]
        saved = (*kept, *(w for w in weights if w is not None)) if keep else (hidden,)
        ctx.save_for_backward(parameters[0], parameters[1], *saved)
        ctx.n_parameters = len(parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        norm_1, norm_2, *saved = ctx.saved_tensors
        plan: Plan = ctx.plan
        with torch.autocast(upstream.device.type, enabled=False):
            if plan.recompute:
                _, kept, weights = _forward(plan, saved[0], norm_1, norm_2, keep=True)
            else:
                rest = iter(saved[len(_Kept._fields) :])
                kept = _Kept(*saved[: len(_Kept._fields)])
                weights = [next(rest) if has else None for has in ctx.has]
            grads = _backward(plan, upstream, kept, weights, norm_1, norm_2)
        return None, *grads[: ctx.n_parameters + 1]


def _forward(
    plan: Plan, hidden: Tensor, norm_1: Tensor, norm_2: Tensor, *, keep: bool
) -> tuple[Tensor, _Kept, list[Tensor | None]]:
    m = plan.matrices
    normed_1, root_1 = _norm(hidden, norm_1, plan.eps[0], m.out.dtype)
    qkv = _products(normed_1, m.qkv, m.bias)
    _rotate(qkv, plan, plan.sin)
    attended, weights = attend_forward(*_heads(qkv, plan), plan.tiles, plan.scaling, keep=keep)
    attended = attended.view(len(hidden), -1)
    if plan.at is not None:
        attended, middle = attended[plan.at], _added(hidden[plan.at], attended[plan.at], m.out)
    else:
        middle = _added(hidden, attended, m.out)
    normed_2, root_2 = _norm(middle, norm_2, plan.eps[1], m.out.dtype)
    gate_up = _products(normed_2, m.gate_up, None)
    gate, up = gate_up.chunk(2, dim=-1)
    silu = torch.nn.functional.silu(gate)
    gated = silu * up
    out = _added(middle, gated, m.down)
    kept = _Kept(hidden, root_1, normed_1, qkv, attended, middle, root_2, normed_2, gate_up, silu, gated)
    return out, kept, weights


def _backward(
    plan: Plan, upstream: Tensor, k: _Kept, weights: Sequence[Tensor | None], norm_1: Tensor, norm_2: Tensor
) -> list[Tensor]:
    """Gradients of the input and of the parameters, in the order of :func:`decode`."""
    m = plan.matrices
    kind, wide = m.out.dtype, norm_1.dtype
    # The MLP.
    above = upstream.to(kind)
    grad_down = _slope(above, k.gated, wide)
    grad_gated = above @ m.down
    gate, up = k.gate_up.chunk(2, dim=-1)
    grad_gate_up = torch.empty_like(k.gate_up)
    grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
    torch.mul(grad_gated, k.silu, out=grad_up)
    torch.ops.aten.silu_backward.grad_input(grad_gated.mul_(up), gate, grad_input=grad_gate)
    grads_mlp = _slopes(grad_gate_up, k.normed_2, m.gate_up, wide, parts=2 * [gate.shape[-1]])
    middle, grad_norm_2 = _norm_backward(_back(grad_gate_up, m.gate_up), k.middle, k.root_2, norm_2, upstream)
    # The attention.
    above = middle.to(kind)
    grad_out = _slope(above, k.attended, wide)
    grad_attended = above @ m.out
    below = middle
    if plan.at is not None:
        grad_attended = _placed(grad_attended, plan.at, len(k.hidden))
        below = _placed(middle, plan.at, len(k.hidden))
    grad_qkv = torch.empty_like(k.qkv)
    heads = _heads(k.qkv, plan)
    grad_attended = grad_attended.view(len(k.hidden), plan.heads, -1)
    attend_backward(grad_attended, *heads, plan.tiles, plan.scaling, weights, _heads(grad_qkv, plan))
    _rotate(grad_qkv, plan, -plan.sin)
    widths = [len(part) * part.shape[-1] for part in heads]
    grads_qkv = _slopes(grad_qkv, k.normed_1, m.qkv, wide, parts=widths)
    grad_hidden, grad_norm_1 = _norm_backward(_back(grad_qkv, m.qkv), k.hidden, k.root_1, norm_1, below)
    grads_bias = [] if m.bias is None else list(grad_qkv.sum(0, dtype=wide).split(widths))
    return [grad_hidden, grad_norm_1, grad_norm_2, *grads_qkv, grad_out, *grads_mlp, grad_down, *grads_bias]


def _norm(hidden: Tensor, weight: Tensor, eps: float, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """RMS norm in the type that is computed in, and [token, 1] one over the root of the mean square."""
    length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    root = length.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
    return (hidden * root).mul_(weight).to(kind), root


def _norm_backward(
    upstream: Tensor, hidden: Tensor, root: Tensor, weight: Tensor, beside: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the norm's input, with that of the residual ``beside`` it added, and of its weight."""
    slope = upstream.float() if upstream.dtype != hidden.dtype else upstream
    unit = hidden * root
    each = slope * unit
    grad_weight = each.sum(0)
    # How far the slope lies along the input, which the norm takes out.
    along = torch.mv(each, weight).div_(hidden.shape[-1])[:, None]
    inner = (slope * weight).sub_(unit.mul_(along))
    grad: Tensor = torch.addcmul(beside, inner, root)
    return grad, grad_weight


def _products(states: Tensor, matrices: tuple[Tensor, ...], bias: Tensor | None) -> Tensor:
    """``states`` times each matrix, side by side."""
    if len(matrices) == 1:
        return states @ matrices[0].t() if bias is None else torch.addmm(bias, states, matrices[0].t())
    out = states.new_empty(len(states), sum(map(len, matrices)))
    for part, matrix in zip(out.split([len(m) for m in matrices], dim=-1), matrices, strict=True):
        torch.mm(states, matrix.t(), out=part)
    return out if bias is None else out.add_(bias)


def _back(slope: Tensor, matrices: tuple[Tensor, ...]) -> Tensor:
    """Gradient of the input of :func:`_products`."""
    first, *others = slope.split([len(m) for m in matrices], dim=-1)
    out: Tensor = first @ matrices[0]
    for part, matrix in zip(others, matrices[1:], strict=True):
        out.addmm_(part, matrix)
    return out


def _slope(slope: Tensor, states: Tensor, wide: torch.dtype) -> Tensor:
    """Gradient of the matrix between ``states`` and ``slope``, in the parameter's type."""
    return (_turned(slope) @ states).to(wide)


def _slopes(
    slope: Tensor, states: Tensor, matrices: tuple[Tensor, ...], wide: torch.dtype, *, parts: list[int]
) -> list[Tensor]:
    """Gradients of the parameters of :func:`_products`, each of its own memory."""
    if len(matrices) == 1:  # one product; the casts are the copies
        return [part.to(wide, copy=True) for part in (_turned(slope) @ states).split(parts)]
    return [part.t() @ states for part in slope.split(parts, dim=-1)]


def _turned(states: Tensor) -> Tensor:
    """Transposed. In bf16 in memory too, some rows at a time: a product that reads columns is several times slower."""
    if states.dtype != torch.bfloat16:
        return states.t()
    out = states.new_empty(states.shape[1], len(states))
    for part, place in zip(states.split(_TURNED_ROWS), out.split(_TURNED_ROWS, dim=1), strict=True):
        place.copy_(part.t())
    return out


def _added(residual: Tensor, states: Tensor, matrix: Tensor) -> Tensor:
    """``residual + states @ matrix.T``, in the residual's type."""
    if residual.dtype == states.dtype:
        return torch.addmm(residual, states, matrix.t())
    return residual + states @ matrix.t()


def _placed(states: Tensor, at: Tensor, length: int) -> Tensor:
    return states.new_zeros(length, states.shape[-1]).index_copy_(0, at, states)


def _heads(qkv: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Views [head, token, width] of query, key and value."""
    width = 2 * plan.cos.shape[-1]
    split = qkv.view(len(qkv), -1, width).transpose(0, 1)
    query, key, value = split.split([plan.heads, plan.key_heads, plan.key_heads])
    return query, key, value


def _rotate(qkv: Tensor, plan: Plan, sin: Tensor) -> None:
    """Turn queries and keys in place by their positions; with ``-sin`` back. In fp32, rounded once."""
    half = plan.cos.shape[-1]
    turned = qkv[:, : (plan.heads + plan.key_heads) * 2 * half].view(len(qkv), -1, 2, half)
    first, second = turned[:, :, 0].float(), turned[:, :, 1].float()  # in fp32 they are the states themselves
    turned_first = (first * plan.cos).sub_(second * sin)
    turned[:, :, 1] = (second * plan.cos).add_(first * sin)
    turned[:, :, 0] = turned_first
