"""A batch as the model sees it: where the prompt ends, what is trained on, where a response ends, which one wins."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from safetyvalve.data import TokenizedExample
from safetyvalve.data.preview import Token, whole_tokens

__all__ = ["preview_batch"]

_LAST, _FIRST = 8, 12


def preview_batch(
    examples: Sequence[TokenizedExample], tokenizer: PreTrainedTokenizerBase, *, limit: int = 3
) -> list[str]:
    """Lines that show the first ``limit`` examples of a batch, token by token.

    The mask is 0 on the prompt, which is only context, and 1 on response tokens, whose log-probabilities enter the
    loss.
    """
    responses = sum(len(e.response_ids) for e in examples)
    masked = sum(len(r) for e in examples for r in e.response_ids)
    lines = [
        f"first step: {len(examples)} prompts, {responses} responses; {sum(e.n_tokens for e in examples):,} tokens, "
        f"{masked:,} of them in the loss"
    ]
    for example in examples[:limit]:
        lines.append(f"  example {example.id}")
        prompt = whole_tokens(example.prompt_ids, tokenizer)
        more = "... " if len(prompt) > _LAST else ""
        shown = more + _words(prompt[-_LAST:])
        lines.append(f"    prompt, mask 0, {len(example.prompt_ids)} tokens, the last: {shown}")
        for number, ids in enumerate(example.response_ids):
            lines.append(f"    response {number + 1}, mask 1, {_place(example, number)}, {_response(ids, tokenizer)}")
    if len(examples) > limit:
        lines.append(f"  and {len(examples) - limit} more")
    return lines


def _place(example: TokenizedExample, number: int) -> str:
    if len(example.response_ids) == 2 and len(example.comparisons) == 1:
        parts = ["chosen" if example.comparisons[0].winner == number else "rejected"]
    else:
        beaten = [str(c.loser + 1) for c in example.comparisons if c.winner == number]
        winners = [str(c.winner + 1) for c in example.comparisons if c.loser == number]
        parts = [f"beats {', '.join(beaten)}"] * bool(beaten) + [f"loses to {', '.join(winners)}"] * bool(winners)
        parts = parts or ["not compared"]
    if example.baseline is not None and any(response == number for response, _ in example.baseline):
        parts.append("baseline of the SFT term")
    return "; ".join(parts)


def _response(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    tokens = whole_tokens(ids, tokenizer)
    cut = len(tokens) > _FIRST + _LAST
    shown = f"{_words(tokens[:_FIRST])} ... {_words(tokens[-_LAST:])}" if cut else _words(tokens)
    end = "ends with EOS" if ids[-1] == tokenizer.eos_token_id else "does not end with EOS"
    return f"{len(ids)} tokens, {end}: {shown}"


def _words(tokens: Sequence[Token]) -> str:
    """Each token in quotes, so that spaces, newlines and special tokens are seen."""
    return " ".join(repr(token.text) for token in tokens)
