"""From hidden states to log-probabilities of given tokens, without ever holding the full logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from safetyvalve.errors import EngineError

__all__ = ["chunked_logps", "logits_function"]

CHUNK = 256
"""Positions a chunk: with 49,152 words in the vocabulary its fp32 logits take 50 MB."""


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
    config = model.config.get_text_config()
    scale, cap = getattr(config, "logit_scale", None), getattr(config, "final_logit_softcapping", None)
    if divisor := getattr(config, "logits_scaling", None):
        scale = 1 / divisor

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
    """Log-probability of each target given the hidden state that predicts it, in nats.

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
