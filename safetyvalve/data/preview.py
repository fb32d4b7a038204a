"""One example as the model is trained on it: where the prompt ends, which tokens count, where the answer ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from safetyvalve.data.personal import find_personal
from safetyvalve.data.schema import Place, PreferenceExample
from safetyvalve.data.shares import Record, place_of
from safetyvalve.data.tokenizing import TokenizedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Part", "Preview", "Token", "previews", "whole_tokens"]


class Token(Record):
    """One token, or the few that a character is made of."""

    ids: list[int]
    text: str
    end: bool
    """Whether it is the end-of-turn token."""


class Part(Record):
    """A run of tokens of one mask."""

    name: Literal["prompt", "chosen", "rejected", "response"]
    mask: Literal[0, 1]
    """1 where the log-probability of the tokens enters the loss, 0 where they are only read."""
    first: list[Token]
    omitted: int
    """Tokens between ``first`` and ``last`` that are not shown."""
    last: list[Token]
    complete: bool
    """Whether the part is whole; a response that is not was cut and has no end token."""


class Preview(Record):
    """The prompt and the two responses of a comparison, or one response where nothing is compared."""

    place: Place
    parts: list[Part]

    def lines(self) -> Iterator[str]:
        yield f"  as tokens, row {self.place.row} (mask 0: read only; 1: trained on)"
        for part in self.parts:
            omitted = [f"...({part.omitted} more)..."] if part.omitted else []
            shown = [*(repr(t.text) for t in part.first), *omitted, *(repr(t.text) for t in part.last)]
            ends = any(t.end for t in part.last[-1:])
            tail = "" if part.mask == 0 else " <- end token" if ends else " (cut, no end token)"
            yield f"    {part.name:<8} mask {part.mask}: {' '.join(shown)}{tail}"


def previews(
    kept: Sequence[PreferenceExample],
    tokens: Sequence[TokenizedExample],
    tokenizer: PreTrainedTokenizerBase,
    *,
    shown: int = 10,
) -> list[Preview]:
    """The first example, and the first with a cut response, whose texts hold nothing like personal data.

    Args:
        kept, tokens: one each, in the same order.
        tokenizer: that made the tokens.
        shown: tokens at the end of the prompt, and at each end of a response.
    """
    found: list[Preview] = []
    wanted_cut = any(t.cut for t in tokens)
    for number, (example, t) in enumerate(zip(kept, tokens, strict=True), 1):
        if found and not t.cut:
            continue
        texts = [*(m.content for m in example.prompt), *(r.content for r in example.responses)]
        if any(map(find_personal, texts)):
            continue
        found.append(_preview(place_of(example, number), t, tokenizer, shown))
        if t.cut or not wanted_cut:
            break
    return found


def _preview(place: Place, t: TokenizedExample, tokenizer: PreTrainedTokenizerBase, shown: int) -> Preview:
    """With a comparison that has a cut response, if there is one; where nothing is compared, with one response."""
    compared = [c for c in t.comparisons if {c.winner, c.loser} & set(t.cut)] or t.comparisons
    if compared:
        sides = [("chosen", compared[0].winner), ("rejected", compared[0].loser)]
    else:
        sides = [("response", t.cut[0] if t.cut else 0)]
    parts = [_part("prompt", whole_tokens(t.prompt_ids, tokenizer), 0, shown, complete=True)]
    for name, index in sides:
        response = whole_tokens(t.response_ids[index], tokenizer)
        parts.append(_part(name, response, shown, shown, complete=t.complete[index]))
    return Preview(place=place, parts=parts)


def _part(name: str, tokens: list[Token], first: int, last: int, *, complete: bool) -> Part:
    """Some tokens of both ends."""
    end = max(0, len(tokens) - last)
    first = min(first, end)
    return Part(
        name=name,  # type: ignore[arg-type]
        mask=0 if name == "prompt" else 1,
        first=tokens[:first],
        omitted=sum(len(token.ids) for token in tokens[first:end]),
        last=tokens[end:],
        complete=complete,
    )


def whole_tokens(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[Token]:
    """Tokens, those joined that only together are a character."""
    tokens: list[Token] = []
    held: list[int] = []
    for position, i in enumerate(ids, 1):
        held.append(i)
        text = str(tokenizer.decode(held))
        # At most four bytes make a character; more is text that is broken or cut.
        if "\ufffd" not in text or len(held) == 4 or position == len(ids):
            tokens.append(Token(ids=held, text=text, end=i == tokenizer.eos_token_id))
            held = []
    return tokens
