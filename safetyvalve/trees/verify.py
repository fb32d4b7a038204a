"""Is the shared-prefix forward exact for this model? Measured on real trees before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.errors import EngineError, ModelError, UsageError
from safetyvalve.quantized import full_precision
from safetyvalve.trees.forward import response_logps
from safetyvalve.trees.plan import Engine, Tree

__all__ = ["EngineChoice", "Quantity", "choose_engine", "largest_difference"]

TOLERANCE = 1e-4
"""Nats per token in fp32. Exact forwards differ by 1e-5 or less, a wrong mask by 0.1 or more."""


class EngineChoice(NamedTuple):
    """Which forward is used, and why."""

    engine: Engine
    reason: str


def _token_logps(model: PreTrainedModel, trees: Sequence[Tree], engine: Engine) -> Tensor:
    return response_logps(model, trees, engine=engine).tokens


class Quantity(NamedTuple):
    """What the two forwards are compared by."""

    values: Callable[[PreTrainedModel, Sequence[Tree], Engine], Tensor] = _token_logps
    """Of all responses, over the trees in order."""
    unit: str = "nats a token"
    tolerance: float = TOLERANCE
    """In fp32."""


def largest_difference(model: PreTrainedModel, trees: Sequence[Tree], quantity: Quantity | None = None) -> float:
    """Largest difference between the shared-prefix and the plain forward, without dropout; in nats per token, unless
    another quantity is compared.

    Raises:
        EngineError: the shared-prefix forward cannot run at all.
        ModelError: a tree is too long for this model in either forward.
    """
    values = (quantity or Quantity()).values
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False), full_precision(model):
            try:
                tree = values(model, trees, "tree")
            except ModelError:  # EngineError among them
                raise
            except Exception as error:
                # Whatever a model does with a mask that it does not know, the plain forward is the way out.
                raise EngineError(
                    f"{type(model).__name__} fails in the shared-prefix forward ({type(error).__name__}: {error}). "
                    "Use --engine padded."
                ) from error
            # One response at a time: full logits of them all could be the largest thing that a run ever holds.
            alone = [Tree(tree.prompt_ids, (response,)) for tree in trees for response in tree.response_ids]
            plain = torch.cat([values(model, [t], "padded") for t in alone])
    finally:
        model.train(was_training)
    return float((tree - plain).abs().max())


def choose_engine(
    model: PreTrainedModel, trees: Sequence[Tree], *, wanted: str = "auto", quantity: Quantity | None = None
) -> EngineChoice:
    """Pick the forward, by comparing both on ``trees``.

    Args:
        model: the policy, its parameters in the precision it is trained in.
        trees: typical ones and the longest, so that sliding windows and every cut of a tree are met.
        wanted: ``auto`` falls back to the plain forward where the fast one is not exact; ``tree`` raises there;
            ``padded`` takes the plain one unasked.
        quantity: what is compared; None takes log-probabilities of tokens.

    Raises:
        EngineError: ``tree`` was wanted and is not exact.
        ModelError: a tree is too long for this model in either forward.
        UsageError: unknown name.
    """
    if wanted == "padded":
        return EngineChoice("padded", "asked for")
    if wanted not in ("auto", "tree"):
        raise UsageError(f"engine is '{wanted}'; accepted: auto, tree, padded.")
    quantity = quantity or Quantity()
    tolerance = quantity.tolerance if model.dtype in (torch.float32, torch.float64) else 0.1
    try:
        difference = largest_difference(model, trees, quantity)
    except EngineError as error:
        if wanted == "tree":
            raise
        return EngineChoice("padded", str(error))
    if difference <= tolerance:
        return EngineChoice("tree", f"equal to the plain forward within {difference:.1e} {quantity.unit}")
    reason = (
        f"the shared-prefix forward of {type(model).__name__} differs from the plain one by {difference:.2g} "
        f"{quantity.unit} on the {len(trees)} examples compared, the longest of {max(t.n_tokens for t in trees)} "
        f"tokens; at most {tolerance:g} is accepted"
    )
    if wanted == "tree":
        raise EngineError(reason + ". Use --engine auto or --engine padded.")
    return EngineChoice("padded", reason)
