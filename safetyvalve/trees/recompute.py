"""Less memory for more time: layers whose inner values are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from safetyvalve.errors import EngineError

__all__ = ["is_recomputed", "recomputed_layers"]


@contextmanager
def recomputed_layers(model: PreTrainedModel) -> Iterator[None]:
    """Within it, entered around forward *and* backward, a layer keeps only its input; the rest is computed again.

    The values are the same: the layers run twice on equal inputs. transformers' own switch
    (``gradient_checkpointing_enable``) works in training mode only, where dropout would make the policy differ from its
    reference.

    Raises:
        EngineError: the model's layers cannot be recomputed.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise EngineError(
            f"{type(model).__name__} has no layers that can be computed again in the backward pass. Use --memory "
            "normal and a smaller --token-budget."
        )
    for layer in layers:
        # An instance's attribute hides the class's method until it is deleted.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def is_recomputed(layer: nn.Module) -> bool:
    """Whether this layer is computed again because :func:`recomputed_layers` says so."""
    forward = vars(layer).get("forward")
    return isinstance(forward, partial) and forward.func is checkpoint
