"""A decoder layer (RMS norm, attention, RMS norm, gated MLP) as one function with its own backward pass.

What autograd does for such a layer is some sixty passes over its values, a third of them casts, and it keeps a copy of
most. Written out there are about half as many, fewer still by the kernels of :mod:`safetyvalve.native`; the products of
equal inputs are one product, and what is kept for the backward pass is what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from safetyvalve.trees.kernel import Grouping, attend_row, attend_row_backward
from safetyvalve.trees.passes import gate, gate_backward, norm, norm_backward, rotate
from safetyvalve.trees.products import Operand
from safetyvalve.trees.tiles import Tiling

__all__ = ["Matrices", "Plan", "decode"]


class Matrices(NamedTuple):
    """A layer's matrices in the type that is computed in; those with one input stand together."""

    dtype: torch.dtype
    qkv: Operand
    bias: Tensor | None
    """[query, key and value widths]: of query, key and value."""
    out: Operand
    gate_up: Operand
    down: Operand

    @property
    def nbytes(self) -> int:
        """Of memory that they take beside the parameters."""
        return sum(part.nbytes for part in (self.qkv, self.out, self.gate_up, self.down))


class Plan(NamedTuple):
    """What a layer's function is told besides its input and parameters."""

    matrices: Matrices
    grouping: Grouping
    eps: tuple[float, float]
    """Of the norms before attention and before the MLP."""
    tiles: Tiling
    cos: Tensor
    """fp32 [token, half of a head's width], as ``sin``."""
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
    normed_1, root_1 = norm(hidden, norm_1, plan.eps[0], m.dtype)
    qkv = m.qkv.product(normed_1, m.bias)
    rotate(qkv, plan.grouping.turned, plan.cos, plan.sin)
    attended, weights = attend_row(qkv, plan.grouping, plan.tiles, keep=keep)
    wanted, beside = (attended, hidden) if plan.at is None else (attended[plan.at], hidden[plan.at])
    middle = m.out.added(beside, wanted)
    normed_2, root_2 = norm(middle, norm_2, plan.eps[1], m.dtype)
    gate_up = m.gate_up.product(normed_2)
    out = m.down.added(middle, gate(gate_up))
    kept = _Kept(hidden, root_1, normed_1, qkv, attended, middle, root_2, normed_2, gate_up)
    return out, kept, weights


def _backward(
    plan: Plan, upstream: Tensor, k: _Kept, weights: Sequence[Tensor | None], norm_1: Tensor, norm_2: Tensor
) -> list[Tensor]:
    """Gradients of the input and of the parameters, in the order of :func:`decode`."""
    m = plan.matrices
    # The MLP.
    above = upstream.to(m.dtype)
    grad_gate_up, gated = gate_backward(m.down.back(above), k.gate_up)
    grad_down = m.down.slopes(above, gated)
    grads_mlp = m.gate_up.slopes(grad_gate_up, k.normed_2)
    middle, grad_norm_2 = norm_backward(m.gate_up.back(grad_gate_up), k.middle, k.root_2, norm_2, upstream)
    # The attention.
    above = middle.to(m.dtype)
    wanted = k.attended if plan.at is None else k.attended[plan.at]
    grad_out = m.out.slopes(above, wanted)
    grad_attended, below = m.out.back(above), middle
    if plan.at is not None:
        grad_attended, below = (_placed(part, plan.at, len(k.hidden)) for part in (grad_attended, middle))
    grad_qkv = attend_row_backward(grad_attended, k.qkv, k.attended, plan.grouping, plan.tiles, weights)
    rotate(grad_qkv, plan.grouping.turned, plan.cos, plan.sin, back=True)
    grads_qkv = m.qkv.slopes(grad_qkv, k.normed_1)
    grad_hidden, grad_norm_1 = norm_backward(m.qkv.back(grad_qkv), k.hidden, k.root_1, norm_1, below)
    widths = [len(grad) for grad in grads_qkv]
    grads_bias = [] if m.bias is None else list(grad_qkv.sum(0, dtype=norm_1.dtype).split(widths))
    return [grad_hidden, grad_norm_1, grad_norm_2, *grads_qkv, *grad_out, *grads_mlp, *grad_down, *grads_bias]


def _placed(states: Tensor, at: Tensor, length: int) -> Tensor:
    return states.new_zeros(length, states.shape[-1]).index_copy_(0, at, states)
