"""What takes one token at a time: norms, rotations, the gate, the softmax over the vocabulary.

Each is one kernel of :mod:`safetyvalve.native` where there is one, and several of torch's elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safetyvalve.native import kernels
from safetyvalve.native.calls import call

__all__ = ["gate", "gate_backward", "norm", "norm_backward", "rotate", "target_softmax"]

_ROWS = 16
"""Rows that go through torch's softmax together, so that its passes stay in the processor's caches."""


def norm(hidden: Tensor, weight: Tensor, eps: float, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """RMS norm in the type that is computed in, and [token, 1] one over the root of the mean square.

    Args:
        hidden: fp32 [token, width].
        weight: fp32 [width].
        eps: is added to the mean square.
        kind: of the result, which is computed in fp32.
    """
    if hidden.dtype == torch.float32 and _native(hidden, kind):
        hidden = hidden.contiguous()
        out, root = torch.empty_like(hidden, dtype=kind), hidden.new_empty(len(hidden), 1)
        call("sv_norm", hidden, weight, float(eps), out, root, *hidden.shape, _narrow(kind))
        return out, root
    length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    root = length.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
    return (hidden * root).mul_(weight).to(kind), root


def norm_backward(
    upstream: Tensor, hidden: Tensor, root: Tensor, weight: Tensor, beside: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the norm's input, with that of the residual ``beside`` it added, and of its weight.

    Args:
        upstream: [token, width], gradient of the norm's result, in its type.
        hidden: fp32 [token, width], as was given to the norm.
        root: as the norm gave it.
        weight: fp32 [width].
        beside: fp32 [token, width].
    """
    if hidden.dtype == torch.float32 and _native(hidden, upstream.dtype):
        upstream, hidden, beside = upstream.contiguous(), hidden.contiguous(), beside.contiguous()
        grad, grad_weight = torch.empty_like(hidden), torch.empty_like(weight)
        given = (upstream, hidden, root, weight, beside, grad, grad_weight, *hidden.shape)
        call("sv_norm_backward", *given, _narrow(upstream.dtype))
        return grad, grad_weight
    slope = upstream.float() if upstream.dtype != hidden.dtype else upstream
    unit = hidden * root
    each = slope * unit
    grad_weight = each.sum(0)
    # How far the slope lies along the input, which the norm takes out.
    along = torch.mv(each, weight).div_(hidden.shape[-1])[:, None]
    inner = (slope * weight).sub_(unit.mul_(along))
    return torch.addcmul(beside, inner, root), grad_weight


def rotate(qkv: Tensor, heads: int, cos: Tensor, sin: Tensor, *, back: bool = False) -> None:
    """Turn the first ``heads`` heads in place by their positions, or back. In fp32, rounded once.

    Args:
        qkv: [token, all heads x width], contiguous.
        heads: those of queries and keys, which stand first.
        cos: fp32 [token, half the width].
        sin: likewise.
        back: turn the other way, as gradients are.
    """
    half = cos.shape[-1]
    if _native(cos, qkv.dtype):
        given = (qkv, qkv.shape[1], cos.contiguous(), sin.contiguous(), len(qkv), heads, half, int(back))
        call("sv_rotate", *given, _narrow(qkv.dtype))
        return
    cos, sin = cos[:, None], -sin[:, None] if back else sin[:, None]
    turned = qkv[:, : heads * 2 * half].view(len(qkv), -1, 2, half)
    first, second = turned[:, :, 0].float(), turned[:, :, 1].float()  # in fp32 they are the states themselves
    turned_first = (first * cos).sub_(second * sin)
    turned[:, :, 1] = (second * cos).add_(first * sin)
    turned[:, :, 0] = turned_first


def gate(gate_up: Tensor) -> Tensor:
    """[token, 2 x width] of gate and up -> [token, width]: SiLU of the gate times up."""
    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty(len(gate_up), width)
    if _native(gate_up, gate_up.dtype):
        call("sv_gate", gate_up, out, len(gate_up), width, _narrow(gate_up.dtype))
        return out
    opening, up = gate_up.chunk(2, dim=-1)
    return torch.mul(torch.nn.functional.silu(opening), up, out=out)


def gate_backward(upstream: Tensor, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of ``gate_up`` from that of :func:`gate`'s result, and this result again."""
    width = gate_up.shape[-1] // 2
    grad, again = torch.empty_like(gate_up), gate_up.new_empty(len(gate_up), width)
    if _native(gate_up, gate_up.dtype):
        given = (upstream.contiguous(), gate_up, grad, again, len(gate_up), width)
        call("sv_gate_backward", *given, _narrow(gate_up.dtype))
        return grad, again
    opening, up = gate_up.chunk(2, dim=-1)
    grad_opening, grad_up = grad.chunk(2, dim=-1)
    silu = torch.nn.functional.silu(opening)
    torch.mul(upstream, silu, out=grad_up)
    torch.ops.aten.silu_backward.grad_input(upstream * up, opening, grad_input=grad_opening)
    return grad, torch.mul(silu, up, out=again)


def target_softmax(scores: Tensor, target: Tensor, logps: Tensor, *, wanted: bool) -> None:
    """Fill in the targets' log-probabilities; where ``wanted``, scores become probabilities in place.

    Args:
        scores: [token, vocabulary], contiguous; lost in any case.
        target: int64 [token], within the vocabulary.
        logps: fp32 [token].
        wanted: the probabilities.
    """
    if _native(scores, scores.dtype):
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < scores.shape[1]:
            raise IndexError(
                f"targets from {int(target.min())} to {int(target.max())}; a vocabulary of {scores.shape[1]} has those "
                f"from 0 to {scores.shape[1] - 1}. Is the tokenizer the model's?"
            )
        target = target.to(torch.int64).contiguous()
        call("sv_target_softmax", scores, target, logps, *scores.shape, int(wanted), _narrow(scores.dtype))
        return
    for rows, aims, out in zip(scores.split(_ROWS), target.split(_ROWS), logps.split(_ROWS), strict=True):
        exact = rows.float()  # the scores themselves where they are fp32
        exact -= exact.amax(-1, keepdim=True)
        aimed = exact.gather(-1, aims[:, None])[:, 0]
        total = exact.exp_().sum(-1, keepdim=True)
        if wanted:
            exact *= total.reciprocal()
            if exact is not rows:
                rows.copy_(exact)
        torch.sub(aimed, total[:, 0].log(), out=out)


def _native(states: Tensor, kind: torch.dtype) -> bool:
    return (
        states.dtype in (torch.float32, torch.bfloat16)
        and kind in (torch.float32, torch.bfloat16)
        and states.device.type == "cpu"
        and kernels().library is not None
    )


def _narrow(kind: torch.dtype) -> int:
    return int(kind == torch.bfloat16)
