"""Which architectures cannot take the shared-prefix forward, told from what they say of themselves."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from safetyvalve.errors import ModelError

__all__ = ["check_length", "refusal"]

_STATEFUL = {
    "linear_attention": "recurrent layers",
    "conv": "convolutions along the tokens",
    "hybrid": "recurrent layers",
    "hybrid_sliding": "recurrent layers",
}
_SELECTING = {
    "indexed_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
    "minimax_m3_sparse",
    "reference_sliding_attention",
}
"""Layers that choose or compress keys over the whole row before they attend."""


def refusal(model: PreTrainedModel) -> str | None:
    """Why the shared-prefix forward cannot be exact for this model, to stand after its name; None where it may be.

    None is no proof: what a model does not say of itself is found by
    :func:`safetyvalve.trees.choose_engine`, which compares the two forwards.
    """
    config = model.config.get_text_config()
    types = set(getattr(config, "layer_types", None) or ())
    if found := sorted(types & set(_STATEFUL)):
        what = f"{_STATEFUL[found[0]]} ('{found[0]}')"
        return f"has {what}, whose state would flow from one response of a prompt into the next"
    if model._is_stateful:
        return "carries a recurrent state, which would flow from one response of a prompt into the next"
    if found := sorted(types & _SELECTING):
        return f"has layers of type '{found[0]}', which choose keys across the responses of a prompt"
    if getattr(config, "attn_temperature_tuning", False):
        # Llama 4. On short rows the factor is 1, so that a comparison of the forwards would not find it.
        return "scales its attention by the place in the row and not by the position (attn_temperature_tuning)"
    if not model._can_set_attn_implementation():
        return "does not take its attention from the registry of transformers"
    return None


def check_length(model: PreTrainedModel, longest: int) -> None:
    """Refuse sequences past the length at which a model turns its positions differently for the whole batch.

    With ``longrope`` (Phi-3 of long context) and ``dynamic`` scaling one such sequence would change the
    log-probabilities of all that are computed with it, in either forward.

    Args:
        model: a causal language model.
        longest: tokens of the longest prompt with one response.

    Raises:
        ModelError: it is past that length.
    """
    config = model.config.get_text_config()
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    for group in rope.values() if all(isinstance(v, dict) for v in rope.values()) else [rope]:
        kind = group.get("rope_type")
        if kind == "longrope":
            limit = group.get("original_max_position_embeddings", config.max_position_embeddings)
        elif kind == "dynamic":
            limit = config.max_position_embeddings
        else:
            continue
        if longest > limit:
            raise ModelError(
                f"a prompt with its response has {longest} tokens; past {limit} the rotary embedding of "
                f"{type(model).__name__} ('{kind}') changes for all sequences of a batch, so that log-probabilities "
                f"would depend on what is computed together. Accepted: up to {limit}; set --max-length {limit} with "
                "--on-long drop."
            )
