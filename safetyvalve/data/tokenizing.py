"""Chat template and tokens: where the prompt ends, and where a response ends.

The prompt is what the model sees when it is asked to answer: the template with its generation prompt. A response
is what the template writes after it, up to and including the end-of-turn token. That boundary comes from the
template, never from a common prefix of two token lists (which would eat common openings) and never from the pad
token (which often equals the end token).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import TemplateError

from safetyvalve.data.schema import Comparison, Message, PreferenceExample, Prompt
from safetyvalve.data.token_cache import TokenCache
from safetyvalve.errors import DataError, ModelError, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TokenizedExample",
    "contained_special_token",
    "render_prompt",
    "tokenize_answers",
    "tokenize_example",
    "tokenize_many",
]

_TOGETHER = 250
"""Examples whose texts are written, and encoded, in one call."""


class TokenizedExample(NamedTuple):
    """Token ids of an example.

    ``prompt_ids`` has at least one token; each of ``response_ids`` ends with the end-of-turn token, except those that
    were cut: they stop where the limit was reached.
    """

    id: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[tuple[int, ...], ...]
    comparisons: tuple[Comparison, ...]
    baseline: tuple[tuple[int, float], ...] | None = None
    """(response, weight) of the baseline's law; None takes the winners, each with its comparison's weight."""
    cut: tuple[int, ...] = ()
    """Indices of the responses that were cut."""

    @property
    def baseline_law(self) -> tuple[tuple[int, float], ...]:
        """(response, weight) for each response of the baseline; weights add over the examples of a step."""
        return tuple((c.winner, c.weight) for c in self.comparisons) if self.baseline is None else self.baseline

    @property
    def complete(self) -> tuple[bool, ...]:
        """For each response, whether it is whole and ends with the end-of-turn token."""
        return tuple(i not in self.cut for i in range(len(self.response_ids)))

    @property
    def n_tokens(self) -> int:
        """Tokens of the tree: the prompt once and every response."""
        return len(self.prompt_ids) + sum(map(len, self.response_ids))

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest response: what a model's context must hold."""
        return len(self.prompt_ids) + max(map(len, self.response_ids))


def render_prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt as text, ending where the assistant is to answer.

    Raises:
        ModelError: the tokenizer has no chat template.
        DataError: a turn contains one of the tokenizer's special tokens as text, which would end or forge a turn.
    """
    _check_template(tokenizer)
    for message in prompt:
        _refuse_special_tokens(message.content, tokenizer)
    return _apply_template([prompt], tokenizer, add_generation_prompt=True)[0]


def tokenize_example(example: PreferenceExample, tokenizer: PreTrainedTokenizerBase) -> TokenizedExample:
    """Tokens of the prompt and of each response, however long.

    Args:
        example: the prompt and its responses.
        tokenizer: a fast tokenizer with a chat template and an end-of-turn token.

    Raises:
        DataError: a turn contains a special token as text.
        ModelError: no chat template, or one whose answers do not end with the tokenizer's end token.
    """
    return tokenize_many([example], tokenizer)[0]


def tokenize_many(
    examples: Sequence[PreferenceExample], tokenizer: PreTrainedTokenizerBase, cache: TokenCache | None = None
) -> list[TokenizedExample]:
    """As :func:`tokenize_example`, for each; the tokenizer gets many texts a call, which it spreads over the cores.

    Args:
        examples: in any order; the result follows it.
        tokenizer: as there.
        cache: asked first, and told of what was not in it.
    """
    known = cache.read(examples) if cache is not None else None
    if known is None:
        known = list(_ids_of(examples, tokenizer))
        if cache is not None:
            cache.write(examples, known)
    for example, (prompt_ids, *_) in zip(examples, known, strict=True):
        if not prompt_ids:
            where = f"{example.place}: " if example.place is not None else ""
            raise DataError(
                f"{where}the prompt has no tokens; a prompt of at least one token is accepted.", field="prompt"
            )
    return [TokenizedExample(e.id, ids[0], ids[1:], e.comparisons) for e, ids in zip(examples, known, strict=True)]


def _ids_of(
    examples: Sequence[PreferenceExample], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Ids of the prompt and of each response, for each example. The tokenizer, which leaves Python to others while it
    works, has the texts of one part while the template writes those of the next."""
    with ThreadPoolExecutor(max_workers=1) as encoder:
        before: Future[list[tuple[tuple[int, ...], ...]]] | None = None
        for first in range(0, len(examples), _TOGETHER):
            texts = _texts_of(examples[first : first + _TOGETHER], tokenizer)
            coming = encoder.submit(_encode_each, texts, tokenizer)
            if before is not None:
                yield from before.result()
            before = coming
        if before is not None:
            yield from before.result()


def _encode_each(texts: list[list[str]], tokenizer: PreTrainedTokenizerBase) -> list[tuple[tuple[int, ...], ...]]:
    ids = iter(_encode([text for some in texts for text in some], tokenizer))
    return [tuple(next(ids) for _ in some) for some in texts]


def _texts_of(examples: Sequence[PreferenceExample], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    try:
        return _written([(e.prompt, [r.content for r in e.responses]) for e in examples], tokenizer)
    except (DataError, ModelError) as error:
        if len(examples) > 1:  # Which of them: one at a time, the first that is at fault raises.
            return [text for example in examples for text in _texts_of([example], tokenizer)]
        if examples[0].place is None or (isinstance(error, DataError) and error.row is not None):
            raise
        raise type(error)(f"{examples[0].place}: {error}") from None


def tokenize_answers(
    prompt: Prompt, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Token ids of a prompt, and of each answer to it up to its end-of-turn token; arguments and errors as
    :func:`tokenize_example`. An answer may be empty."""
    prompt_ids, *answers = _encode(_written([(prompt, texts)], tokenizer)[0], tokenizer)
    if not prompt_ids:
        raise DataError("the prompt has no tokens; a prompt of at least one token is accepted.", field="prompt")
    return prompt_ids, tuple(answers)


def _written(
    conversations: Sequence[tuple[Prompt, Sequence[str]]], tokenizer: PreTrainedTokenizerBase
) -> list[list[str]]:
    """Each conversation's prompt, then each of its answers, as the template writes them: all in two calls, since a
    call costs as much as what it writes."""
    _check_template(tokenizer)
    for prompt, answers in conversations:
        for text in (*(m.content for m in prompt), *answers):
            _refuse_special_tokens(text, tokenizer)
    prompts = _apply_template([prompt for prompt, _ in conversations], tokenizer, add_generation_prompt=True)
    wholes = iter(
        _apply_template(
            [
                [*prompt, Message(role="assistant", content=answer)]
                for prompt, answers in conversations
                for answer in answers
            ],
            tokenizer,
        )
    )
    return [
        [text, *(_response_text(next(wholes), text, tokenizer) for _ in answers)]
        for text, (_, answers) in zip(prompts, conversations, strict=True)
    ]


def contained_special_token(example: PreferenceExample, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The first special token of the tokenizer that a text of the example contains."""
    texts = [*(m.content for m in example.prompt), *(r.content for r in (*example.responses, *example.baseline))]
    return next((token for text in texts for token in _special_tokens(tokenizer) if token in text), None)


def _response_text(whole: str, prompt_text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes after the prompt, up to and including the end token."""
    end = str(tokenizer.eos_token)
    if not whole.startswith(prompt_text):
        raise ModelError(
            "the chat template writes the prompt differently once it is answered: "
            f"{shorten(prompt_text[-40:])} is not where the answer begins. Use a template whose answered conversation "
            "starts with its unanswered one (--chat-template FILE)."
        )
    rest = whole[len(prompt_text) :]
    if end not in rest:
        raise ModelError(
            f"the chat template ends an answer with {shorten(rest[-20:])}, not with the tokenizer's end token {end!r}; "
            "generation would not know where to stop. Set the tokenizer's eos_token to the template's end of turn, or "
            "pass --chat-template FILE."
        )
    # What follows the end token (often a newline) belongs to the next turn: the model never has to produce it.
    return rest[: rest.rindex(end) + len(end)]


def _apply_template(
    conversations: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase, **options: bool
) -> list[str]:
    if not conversations:
        return []
    try:
        return list(
            tokenizer.apply_chat_template(
                [[{"role": m.role, "content": m.content} for m in messages] for messages in conversations],
                tokenize=False,
                **options,
            )
        )
    except TemplateError as error:
        roles = " ".join(m.role for m in conversations[0])
        raise ModelError(
            f"the chat template refuses a conversation with the roles {roles} ({error}). Change the data, or pass "
            "another --chat-template FILE."
        ) from None


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    # Prompt and response are encoded apart, as they are when the model answers: its prompt is a finished token list.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    plain = (None, None, getattr(tokenizer, "split_special_tokens", None))
    if backend is not None and (backend.truncation, backend.padding, backend.encode_special_tokens) == plain:
        # The same ids without each token's place in the text, which is a third of the work.
        return [tuple(encoding.ids) for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]]


def _check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {shorten(tokenizer.name_or_path)} has no chat template, so it is unknown how a "
            "conversation is written for this model. Use an instruction-tuned model or pass --chat-template FILE "
            "(Jinja)."
        )
    if tokenizer.eos_token is None:
        raise ModelError(
            f"the tokenizer of {shorten(tokenizer.name_or_path)} has no eos_token; "
            "set it to the template's end of turn."
        )


def _refuse_special_tokens(content: str, tokenizer: PreTrainedTokenizerBase) -> None:
    for token in _special_tokens(tokenizer):
        if token in content:
            raise DataError(
                f"the turn {shorten(content)} contains the special token {token!r} as text, which would end or forge a "
                "turn. Remove or escape it."
            )


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *(str(t) for t in added.values() if t.special)]))
