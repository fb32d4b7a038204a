"""From hidden states to log-probabilities of given tokens, without ever holding the full logits of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from safetyvalve.errors import EngineError
from safetyvalve.trees.copies import copy_of
from safetyvalve.trees.kernel import arithmetic_dtype
from safetyvalve.trees.passes import target_softmax
from safetyvalve.trees.products import Operand, operand
from safetyvalve.trees.tied import Waiting, tied_embedding

__all__ = ["chunked_logps", "logits_function", "one_gradient", "response_token_logps"]

CHUNK = 256
"""Positions a chunk: with 49,152 words in the vocabulary its fp32 logits take 50 MB."""

KEPT_BYTES = 2**28
"""Probabilities of a micro-batch's response tokens up to which they stay for the backward pass, which otherwise
computes them again. Response tokens only, and in the arithmetic's own precision."""


def response_token_logps(
    model: PreTrainedModel, hidden: Tensor, target: Tensor, *, chunk: int = CHUNK, waiting: Waiting | None = None
) -> Tensor:
    """Log-probability of each target given the last hidden state that predicts it, in nats.

    An output embedding that is only a matrix has its own backward pass; what else models do (soft caps, scales,
    adapters on the head) goes through autograd.

    Args:
        model: gives the output embedding.
        hidden: [token, hidden].
        target: int64 [token].
        chunk: positions whose fp32 logits exist at one time.
        waiting: as :func:`one_gradient` gave it for the forward that ``hidden`` comes from.

    Returns:
        [token], differentiable once.
    """
    head = _plain_head(model)
    if head is None or hidden.dtype == torch.float64:
        return chunked_logps(hidden, target, logits_function(model), chunk=chunk)
    weight, dtype = head.weight, arithmetic_dtype(hidden)
    matrix: Operand = copy_of(weight, dtype, lambda: operand([weight], dtype))
    out: Tensor = _LinearLogps.apply(hidden.to(dtype), weight, target, matrix, chunk, waiting)  # type: ignore[no-untyped-call]
    return out


def _plain_head(model: PreTrainedModel) -> nn.Linear | None:
    """The output embedding, where it is a matrix and nothing else."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and getattr(head, "bias", None) is None and _after_head(model) == (None, None):
        return head
    return None


@contextmanager
def one_gradient(model: PreTrainedModel) -> Iterator[Waiting | None]:
    """A forward within it that ends in :func:`response_token_logps` has one gradient for tied embeddings."""
    head = _plain_head(model)
    if head is None or head.weight.dtype == torch.float64:
        yield None
        return
    with tied_embedding(model.get_input_embeddings(), head.weight) as waiting:
        yield waiting


class _LinearLogps(torch.autograd.Function):
    """Log-softmax of ``hidden @ weight.T`` at the targets.

    Each position's gradient is minus its probabilities, plus one at the target, times one number that is known later
    only: so the forward pass leaves the probabilities, and the backward pass is two products over all positions, of
    which that number scales the narrow side.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        target: Tensor,
        matrix: Operand,
        chunk: int,
        waiting: Waiting | None,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            needs = any(ctx.needs_input_grad[:2])
            keep = needs and len(target) * len(weight) * hidden.element_size() <= KEPT_BYTES
            kept = hidden.new_empty(len(target), len(weight)) if keep else None
            logps = hidden.new_empty(len(target), dtype=torch.float32)
            for first in range(0, len(target), chunk):
                part = slice(first, first + chunk)
                scores = matrix.product(hidden[part], out=None if kept is None else kept[part])
                target_softmax(scores, target[part], logps[part], wanted=keep)
        ctx.save_for_backward(hidden, weight, target, kept)
        ctx.chunk, ctx.waiting, ctx.matrix = chunk, waiting, matrix if needs else None
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        hidden, weight, target, kept = ctx.saved_tensors
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        factor = upstream[:, None].to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight: Tensor | None = None
        scaled = hidden * -factor
        step = ctx.chunk if kept is None else len(target)
        with torch.autocast(hidden.device.type, enabled=False):
            for first in range(0, len(target), step):
                part = slice(first, first + step)
                if kept is None:
                    probabilities = ctx.matrix.product(hidden[part])
                    target_softmax(probabilities, target[part], upstream.new_empty(len(probabilities)), wanted=True)
                else:
                    probabilities = kept
                if grad_hidden is not None:
                    grad_hidden[part] = ctx.matrix.back(probabilities)
                if wants_weight:
                    (product,) = ctx.matrix.slopes(probabilities, scaled[part])
                    grad_weight = product if grad_weight is None else grad_weight.add_(product)
            if grad_hidden is not None:
                grad_hidden = weight[target].to(hidden.dtype).sub_(grad_hidden).mul_(factor)
            if grad_weight is not None:
                grad_weight.index_add_(0, target, scaled.to(weight.dtype), alpha=-1)
                if ctx.waiting is not None and grad_hidden is not None:
                    ctx.waiting.put(grad_weight)
                    grad_weight = None
        return grad_hidden, grad_weight, None, None, None, None


def _after_head(model: PreTrainedModel) -> tuple[float | None, float | None]:
    """Scale and soft cap of the logits, where the configuration has them."""
    config = model.config.get_text_config()
    scale, cap = getattr(config, "logit_scale", None), getattr(config, "final_logit_softcapping", None)
    if divisor := getattr(config, "logits_scaling", None):
        scale = 1 / divisor
    return scale, cap


def logits_function(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """What the model does from its last hidden state to fp32 logits: [token, hidden] -> [token, vocabulary].

    Output embedding, then the scale (Cohere, Granite) and the soft cap (Gemma 2) where the configuration has
    them. A model with anything else fails the parity check of :mod:`safetyvalve.trees.verify`.

    Raises:
        EngineError: the model has no output embedding.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise EngineError(
            f"{type(model).__name__} has no output embedding, so it gives no next-token probabilities. Use a causal "
            "language model."
        )
    scale, cap = _after_head(model)

    def logits(hidden: Tensor) -> Tensor:
        # fp64 stays: gradient checks need it; bf16 and fp16 would lose the small probabilities.
        out: Tensor = head(hidden)
        out = out if out.dtype == torch.float64 else out.float()
        if scale is not None:
            out = out * scale
        if cap is not None:
            out = torch.tanh(out / cap) * cap
        return out

    return logits


def chunked_logps(hidden: Tensor, target: Tensor, logits: Callable[[Tensor], Tensor], *, chunk: int = CHUNK) -> Tensor:
    """As :func:`response_token_logps` for any function to logits, by autograd.

    Args:
        hidden: [token, hidden].
        target: int64 [token].
        logits: maps hidden states to logits, see :func:`logits_function`.
        chunk: positions at a time. Their logits are recomputed in the backward pass.

    Returns:
        [token], differentiable with respect to ``hidden`` and what ``logits`` closes over.
    """

    def piece(part: Tensor, wanted: Tensor) -> Tensor:
        values = logits(part)
        return values.gather(-1, wanted[:, None])[:, 0] - values.logsumexp(-1)

    parts = []
    for part, wanted in zip(hidden.split(chunk), target.split(chunk), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(piece, part, wanted, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(piece(part, wanted))
    return torch.cat(parts)
