"""Many examples to tokens within a length: what fits, what is cut as a pair, what is left out, each with its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from safetyvalve.data.report import DroppedRow, TruncatedRow
from safetyvalve.data.schema import PreferenceExample, Prompt
from safetyvalve.data.shares import place_of
from safetyvalve.data.token_cache import TokenCache
from safetyvalve.data.tokenizing import TokenizedExample, contained_special_token, tokenize_example, tokenize_many
from safetyvalve.errors import DataError, UsageError, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["OnLong", "Tokenized", "refuse_long", "tokenize_examples"]

OnLong = Literal["error", "drop", "truncate"]


class Tokenized(NamedTuple):
    """Examples that can be trained on, in their order, and what became of the others."""

    examples: list[TokenizedExample]
    kept: list[PreferenceExample]
    """Where ``examples`` come from, one each."""
    dropped: list[DroppedRow]
    truncated: list[TruncatedRow]


_SPECIAL = "contains a special token of the model's tokenizer as text"
_LONG = "longer than --max-length"
_NO_ROOM = "last turn of the prompt leaves no room for a response within --max-length"
_SAME = "compared responses are equal once they are cut to --max-length"


def tokenize_examples(
    examples: Sequence[PreferenceExample],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    on_long: str = "error",
    cache_folder: Path | None = None,
) -> Tokenized:
    """Tokenize many.

    A row with one of the tokenizer's special tokens as text is left out and counted, whatever ``on_long`` is.

    Args:
        examples: as they were loaded.
        tokenizer: as in :func:`safetyvalve.data.tokenize_example`.
        max_length: largest number of tokens of prompt plus longest response; None for no limit.
        on_long: what becomes of longer ones. ``error`` raises; ``drop`` leaves them out; ``truncate`` takes whole turns
            off the prompt, the oldest first, keeping the system's and the last one, the same for all responses, and
            where that is not enough cuts the responses at the end. A cut response gets no end token, so that nothing
            is taught about ending there.
        cache_folder: where tokens are kept under the content that they depend on, before anything is cut; None keeps
            nothing.

    Raises:
        DataError: ``on_long`` is ``error`` and an example is longer than ``max_length``.
        ModelError: the chat template is missing or cannot be used.
        UsageError: another ``on_long``.
    """
    if on_long not in get_args(OnLong):
        raise UsageError(f"on-long is '{on_long}'; accepted: {', '.join(get_args(OnLong))}.")
    result = Tokenized([], [], [], [])
    special = [contained_special_token(example, tokenizer) for example in examples]
    clean = [example for example, token in zip(examples, special, strict=True) if token is None]
    whole = iter(tokenize_many(clean, tokenizer, TokenCache(cache_folder, tokenizer)))
    for number, (example, token) in enumerate(zip(examples, special, strict=True), 1):
        place = place_of(example, number)
        tokens: _Fitted | None = None
        reason, value = _SPECIAL, shorten(token or "")
        if token is None:
            tokens, reason, value = _within(example, next(whole), tokenizer, max_length, cut=on_long == "truncate")
        if tokens is None:
            result.dropped.append(DroppedRow(file=place.file, row=place.row, reason=reason, value=value))
            continue
        result.examples.append(tokens.example)
        result.kept.append(example)
        if tokens.before > tokens.example.longest:
            result.truncated.append(
                TruncatedRow(
                    file=place.file,
                    row=place.row,
                    turns=tokens.turns,
                    cut=list(tokens.example.cut),
                    before=tokens.before,
                    after=tokens.example.longest,
                )
            )
    if on_long == "error":
        refuse_long(result.dropped, max_length)
    return result


def refuse_long(dropped: Sequence[DroppedRow], max_length: int | None) -> None:
    """Raise DataError where rows were left out for their length, naming the first of them."""
    long = [row for row in dropped if row.reason == _LONG]
    if long:
        others = f", and {len(long) - 1} more rows are too long" if len(long) > 1 else ""
        raise DataError(
            f"has {long[0].value}{others}; at most --max-length {max_length} are accepted. Raise it, "
            "shorten the rows, cut them with --on-long truncate, or leave them out with --on-long drop.",
            file=long[0].file or None,
            row=long[0].row,
        )


class _Fitted(NamedTuple):
    example: TokenizedExample
    before: int
    """Its longest sequence before any cut, in tokens."""
    turns: int = 0
    """Oldest turns of the prompt that were left out."""


def _within(
    example: PreferenceExample,
    tokens: TokenizedExample,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    *,
    cut: bool,
) -> tuple[_Fitted | None, str, str]:
    """Tokens that fit, or None with the reason and the value it was found in; ``tokens`` are all of the example."""
    before = tokens.longest
    if limit is None or before <= limit:
        return _Fitted(tokens, before), "", ""
    value = f"{before} tokens (prompt {len(tokens.prompt_ids)})"
    if not cut:
        return None, _LONG, value
    turns = 0
    for prompt in _shorter(example.prompt):
        turns = len(example.prompt) - len(prompt)
        shorter = tokenize_example(example.model_copy(update={"prompt": prompt}), tokenizer)
        tokens = shorter._replace(id=tokens.id)
        if tokens.longest <= limit:
            return _Fitted(tokens, before, turns), "", ""
    room = limit - len(tokens.prompt_ids)
    if room < 1:
        return None, _NO_ROOM, value
    responses = tuple(ids[:room] for ids in tokens.response_ids)
    if any(responses[c.winner] == responses[c.loser] for c in tokens.comparisons):
        return None, _SAME, value
    cut_ones = tuple(i for i, ids in enumerate(tokens.response_ids) if len(ids) > room)
    return _Fitted(tokens._replace(response_ids=responses, cut=cut_ones), before, turns), "", ""


def _shorter(prompt: Prompt) -> Iterator[Prompt]:
    """The prompt without its oldest turns, ever fewer, beginning with a user's turn; system turns stay."""
    turns = [i for i, message in enumerate(prompt) if message.role != "system"]
    for start in turns[1:]:
        if prompt[start].role == "user":
            yield tuple(m for i, m in enumerate(prompt) if m.role == "system" or i >= start)
