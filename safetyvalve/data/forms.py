"""How a row of each known form becomes an example.

A form is a function from a row to an example. A row of the wrong shape raises :class:`DataError`: the file is
not what it was taken for. A row of the right shape whose content cannot teach anything raises :class:`Unusable`:
it is dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from safetyvalve.data.schema import Comparison, Message, PreferenceExample, Prompt, Response, Role
from safetyvalve.errors import DataError, shorten

__all__ = ["FORMS", "Unusable", "parse_transcript", "recognise"]

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


class Unusable(Exception):  # noqa: N818 - not an error: the row is well-formed and is dropped with this reason
    """A well-formed row that carries no usable comparison."""

    def __init__(self, reason: str, value: object) -> None:
        self.reason, self.value = reason, shorten(value)
        super().__init__(reason)


def _text(row: Mapping[str, Any], field: str) -> str:
    value = _present(row, field)
    if not isinstance(value, str):
        raise DataError(
            f"is {type(value).__name__} {shorten(value)}; a text is accepted here. Quote it, or name the form with "
            "--format.",
            field=field,
        )
    return value


def _present(row: Mapping[str, Any], field: str) -> Any:
    if field not in row:
        raise DataError(
            f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}. Add it, or name the form with "
            "--format.",
            field=field,
        )
    return row[field]


def _messages(value: Any, field: str) -> Prompt:
    """Turns from a list of {role, content}; a plain text is one user turn."""
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    if not isinstance(value, list) or not value:
        raise DataError(f"is {shorten(value)}; a text or a non-empty list of messages is accepted.", field=field)
    messages = []
    for index, item in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(item, Mapping):
            raise DataError(f"is {shorten(item)}; an object with role and content is accepted.", field=place)
        role, content = item.get("role"), item.get("content")
        if role is None or role not in get_args(Role):
            raise DataError(f"has role {shorten(role)}; accepted: {', '.join(get_args(Role))}.", field=place)
        if not isinstance(content, str):
            raise DataError(f"has content {shorten(content)}; a text is accepted.", field=place)
        messages.append(Message(role=role, content=content))
    return tuple(messages)


def _pair(prompt: Prompt, chosen: str, rejected: str) -> PreferenceExample:
    chosen, rejected = chosen.strip(), rejected.strip()
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not text:
            raise Unusable(f"{name} response is empty", text)
    if chosen == rejected:
        raise Unusable("chosen and rejected are equal", chosen)
    _check_prompt(prompt)
    return PreferenceExample(
        prompt=prompt,
        responses=(Response(content=chosen), Response(content=rejected)),
        comparisons=(Comparison(winner=0, loser=1),),
    )


def _check_prompt(prompt: Prompt) -> None:
    if prompt[-1].role != "user":
        raise Unusable("prompt does not end with the user's turn", prompt[-1].content)
    if not prompt[-1].content.strip():
        raise Unusable("prompt ends with an empty turn", "")


def explicit_pair(row: Mapping[str, Any]) -> PreferenceExample:
    """``{"prompt", "chosen", "rejected"}``, each a text or a list of messages.

    A list under chosen or rejected must be one assistant message, or the prompt followed by one.
    """
    prompt = _messages(_present(row, "prompt"), "prompt")
    return _pair(prompt, _answer(row, "chosen", prompt), _answer(row, "rejected", prompt))


def _answer(row: Mapping[str, Any], field: str, prompt: Prompt) -> str:
    value = _present(row, field)
    if isinstance(value, str):
        return value
    messages = _messages(value, field)
    if messages[-1].role != "assistant" or (len(messages) > 1 and messages[:-1] != prompt):
        raise DataError(
            f"is a list of {len(messages)} messages ending with role '{messages[-1].role}'; accepted: one assistant "
            "message, or the prompt's messages followed by one.",
            field=field,
        )
    return messages[-1].content


def transcript_pair(row: Mapping[str, Any]) -> PreferenceExample:
    """``{"chosen", "rejected"}``: two whole conversations as in hh-rlhf, split at the last Assistant turn."""
    chosen_prompt, chosen = parse_transcript(_text(row, "chosen"), "chosen")
    rejected_prompt, rejected = parse_transcript(_text(row, "rejected"), "rejected")
    if chosen_prompt != rejected_prompt:
        raise Unusable("prompts of chosen and rejected differ", rejected_prompt[-1].content)
    return _pair(chosen_prompt, chosen, rejected)


def parse_transcript(text: str, field: str = "transcript") -> tuple[Prompt, str]:
    """Split ``\\n\\nHuman: ...\\n\\nAssistant: ...`` into the turns before the last Assistant turn and that turn.

    Raises:
        DataError: the text does not begin with a turn or has no Assistant turn to split at.
    """
    parts = _TURN.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip("\n"))
    if len(parts) < 5 or parts[0].strip() or parts[-2] != "Assistant":
        raise DataError(
            f"is {shorten(text)}; accepted: turns opened by '\\n\\nHuman:' and '\\n\\nAssistant:', the first Human's "
            "and the last Assistant's.",
            field=field,
        )
    names, contents = parts[1::2], parts[2::2]
    turns = [Message(role=_ROLES[n], content=c.strip()) for n, c in zip(names, contents, strict=True)]
    return tuple(turns[:-1]), contents[-1]


def listed_comparisons(row: Mapping[str, Any]) -> PreferenceExample:
    """``{"prompt", "responses": [text], "comparisons": [{"winner", "loser", "weight"?}]}``: the schema itself."""
    prompt = _messages(_present(row, "prompt"), "prompt")
    responses, comparisons = _present(row, "responses"), _present(row, "comparisons")
    if not isinstance(responses, list) or not all(isinstance(r, str) for r in responses):
        raise DataError(f"is {shorten(responses)}; a list of texts is accepted.", field="responses")
    texts = [r.strip() for r in responses]
    if len(set(texts)) < len(texts):
        raise Unusable("two responses are equal", texts)
    if not all(texts):
        raise Unusable("a response is empty", texts)
    if comparisons == []:
        raise Unusable("there are no comparisons", comparisons)
    _check_prompt(prompt)
    try:
        return PreferenceExample.model_validate(
            {"prompt": prompt, "responses": [{"content": t} for t in texts], "comparisons": comparisons}
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "comparisons"
        raise DataError(
            f"is {shorten(first['input'])}: {first['msg'].removeprefix('Value error, ')}. Accepted: at least two "
            "responses, and comparisons as objects with winner and loser counted from 0, and a weight above 0.",
            field=place,
        ) from None


FORMS: dict[str, Callable[[Mapping[str, Any]], PreferenceExample]] = {
    "pair": explicit_pair,
    "hh-transcript": transcript_pair,
    "comparisons": listed_comparisons,
}
"""Forms by the name that ``--format`` accepts."""


def recognise(row: Mapping[str, Any]) -> str:
    """The form of a file, from its first row.

    Raises:
        DataError: the row fits no known form.
    """
    if "prompt" in row and {"chosen", "rejected"} <= set(row):
        return "pair"
    if {"prompt", "responses", "comparisons"} <= set(row):
        return "comparisons"
    if {"chosen", "rejected"} <= set(row) and all(
        isinstance(row[side], str) and _TURN.search("\n\n" + row[side].lstrip("\n")) for side in ("chosen", "rejected")
    ):
        return "hh-transcript"
    raise DataError(
        f"has the fields {', '.join(map(repr, row)) or '(none)'}, which is no known form; accepted: prompt + chosen + "
        "rejected, chosen + rejected as hh-rlhf transcripts, or prompt + responses + comparisons. Rename the fields or "
        "convert the file."
    )
