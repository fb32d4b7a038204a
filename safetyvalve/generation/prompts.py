"""Prompts ready to be answered: tokens by the model's template, within its context."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import Place, Prompt, tokenize_answers
from safetyvalve.errors import DataError, ModelError
from safetyvalve.hashing import content_hash

__all__ = ["ReadyPrompt", "ready_prompts"]


class ReadyPrompt(NamedTuple):
    """A prompt as the model is given it."""

    id: str
    """Content hash."""
    prompt: Prompt
    token_ids: tuple[int, ...]


def ready_prompts(
    prompts: Iterable[tuple[Prompt, Place | None]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
) -> list[ReadyPrompt]:
    """Distinct prompts, in the order in which they first occur.

    Raises:
        DataError: a prompt that leaves no room for an answer in the model's context, or that has a special token as
            text.
        ModelError: the tokenizer has no chat template, or one that refuses a prompt.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    found: dict[str, ReadyPrompt] = {}
    for prompt, place in prompts:
        key = content_hash([m.model_dump(mode="json") for m in prompt])
        if key in found:
            continue
        where = {"file": place.file, "row": place.row} if place else {}
        try:
            ids, _ = tokenize_answers(prompt, [], tokenizer)
        except DataError as error:
            raise DataError(str(error), **where) from None  # type: ignore[arg-type]
        except ModelError as error:
            raise ModelError(f"{place}: {error}" if place else str(error)) from None
        if context is not None and len(ids) + max_new_tokens > context:
            raise DataError(
                f"has a prompt of {len(ids)} tokens; with {max_new_tokens} of an answer that is more than the model's "
                f"context of {context}. Shorten or remove it, or lower --max-new-tokens.",
                **where,  # type: ignore[arg-type]
            )
        found[key] = ReadyPrompt(key, prompt, ids)
    return list(found.values())
