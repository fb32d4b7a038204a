"""One gradient for a matrix that is the input embedding and the head.

Autograd would make two matrices of the vocabulary's size and add them. Here the head's gradient waits until the
backward pass has come down to the embedding, which adds its few rows to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["Waiting", "tied_embedding"]


class Waiting:
    """The head's gradient of one forward, until the embedding's backward pass takes it."""

    def __init__(self) -> None:
        self._grad: Tensor | None = None

    def put(self, grad: Tensor) -> None:
        """Of a backward pass; what one before it left, which did not come down to the embedding, is forgotten."""
        self._grad = grad

    def take(self, like: Tensor) -> Tensor:
        grad, self._grad = self._grad, None
        return torch.zeros_like(like) if grad is None else grad


@contextmanager
def tied_embedding(embedding: nn.Module, weight: Tensor) -> Iterator[Waiting | None]:
    """A forward within it, whose output then goes through the head, has one gradient for ``weight``.

    Args:
        embedding: of the model's input.
        weight: of the head, which hands its gradient to what is yielded instead of to autograd; None where the
            embedding is no plain one with this weight, or nothing is trained.
    """
    plain = type(embedding) is nn.Embedding and embedding.weight is weight and "forward" not in vars(embedding)
    hooks = (embedding._forward_hooks, embedding._forward_pre_hooks, embedding._backward_hooks)
    special = getattr(embedding, "max_norm", None) is not None or getattr(embedding, "scale_grad_by_freq", False)
    if not plain or special or any(hooks) or not (torch.is_grad_enabled() and weight.requires_grad):
        yield None
        return
    waiting, ignored = Waiting(), getattr(embedding, "padding_idx", None)

    def forward(ids: Tensor) -> Tensor:
        looked_up: Tensor = _Lookup.apply(weight, ids, waiting, ignored)  # type: ignore[no-untyped-call]
        return looked_up

    embedding.forward = forward
    try:
        yield waiting
    finally:
        del embedding.forward


class _Lookup(torch.autograd.Function):
    """Rows of the embedding; as torch's, the row of the padding token gets no gradient from here."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, waiting: Waiting, ignored: int | None) -> Tensor:
        ctx.save_for_backward(weight, ids)
        ctx.waiting, ctx.ignored = waiting, ignored
        return torch.nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        weight, ids = ctx.saved_tensors
        rows, ids = upstream.reshape(-1, upstream.shape[-1]), ids.flatten()
        if ctx.ignored is not None:
            seen = ids != ctx.ignored
            rows, ids = rows[seen], ids[seen]
        return ctx.waiting.take(weight).index_add_(0, ids, rows.to(weight.dtype)), None, None, None
