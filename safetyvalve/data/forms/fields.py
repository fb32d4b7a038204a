"""Reading the fields of a row: each reader says what it found and what it accepts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from safetyvalve.data.schema import Comparison, Message, PreferenceExample, Prompt, Response, Role
from safetyvalve.errors import DataError, shorten

__all__ = [
    "Row",
    "Unusable",
    "annotator",
    "build",
    "build_pair",
    "conversation",
    "messages",
    "number",
    "present",
    "text",
]

Row = Mapping[str, Any]


class Unusable(Exception):  # noqa: N818 - not an error: the row is well-formed and is dropped with this reason
    """A well-formed row that carries no usable comparison."""

    def __init__(self, reason: str, value: object) -> None:
        self.reason, self.value = reason, shorten(value)
        super().__init__(reason)


def present(row: Row, field: str) -> Any:
    """The value of a required field. A field that the row lacks is an error; a null (an empty cell) drops the row."""
    if field not in row:
        raise DataError(
            f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}. Add it, or name the form with "
            "--format.",
            field=field,
        )
    if row[field] is None:
        raise Unusable(f"{field} is null or an empty cell", None)
    return row[field]


def text(row: Row, field: str) -> str:
    value = present(row, field)
    if not isinstance(value, str):
        raise DataError(
            f"is {type(value).__name__} {shorten(value)}; a text is accepted here. Quote it, or name the form with "
            "--format.",
            field=field,
        )
    return value


def number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError(
            f"is {shorten(value)}; a finite number is accepted. Correct it, or leave the row out.", field=field
        )
    return float(value)


def messages(value: Any, field: str) -> Prompt:
    """Turns from a list of {role, content}; a plain text is one user turn."""
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    if not isinstance(value, list) or not value:
        raise DataError(f"is {shorten(value)}; a text or a non-empty list of messages is accepted.", field=field)
    turns = []
    for index, item in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(item, Mapping):
            raise DataError(f"is {shorten(item)}; an object with role and content is accepted.", field=place)
        role, content = item.get("role"), item.get("content")
        if role is None or role not in get_args(Role):
            raise DataError(f"has role {shorten(role)}; accepted: {', '.join(get_args(Role))}.", field=place)
        if not isinstance(content, str):
            raise DataError(f"has content {shorten(content)}; a text is accepted.", field=place)
        turns.append(Message(role=role, content=content))
    return tuple(turns)


def conversation(row: Row, field: str) -> tuple[Prompt, str]:
    """A list of messages, split before its last one, which is the assistant's."""
    value = present(row, field)
    if isinstance(value, str):
        raise DataError(
            f"is the text {shorten(value)}; a list of messages is accepted here. Name the form with --format.",
            field=field,
        )
    turns = messages(value, field)
    if turns[-1].role != "assistant":
        raise Unusable(f"{field} does not end with the assistant's turn", turns[-1].content)
    if len(turns) == 1:
        raise DataError(
            "is one message, the answer; the turns before it are accepted too. Add them, or a prompt.", field=field
        )
    return turns[:-1], turns[-1].content


def annotator(row: Row) -> str | None:
    """Who compared; numbers are names too."""
    value = row.get("annotator")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(
            f"is {shorten(value)}; a text or a whole number is accepted. Leave it out where unknown.", field="annotator"
        )
    return str(value)


def build_pair(prompt: Prompt, chosen: str, rejected: str, *, annotator: str | None = None) -> PreferenceExample:
    """The example of a chosen and a rejected response, or the reason to drop it."""
    chosen, rejected = chosen.strip(), rejected.strip()
    for name, response in (("chosen", chosen), ("rejected", rejected)):
        if not response:
            raise Unusable(f"{name} response is empty", response)
    if chosen == rejected:
        raise Unusable("chosen and rejected are equal", chosen)
    return build(prompt, (chosen, rejected), (Comparison(winner=0, loser=1, annotator=annotator),))


def build(prompt: Prompt, texts: Sequence[str], comparisons: Sequence[Comparison]) -> PreferenceExample:
    """The example of K responses and their comparisons, or the reason to drop it."""
    texts = [t.strip() for t in texts]
    if len(set(texts)) < len(texts):
        raise Unusable("two responses are equal", texts)
    if not all(texts):
        raise Unusable("a response is empty", texts)
    if len(texts) < 2:
        raise Unusable("there are fewer than two responses", texts)
    if not comparisons:
        raise Unusable("there are no comparisons", comparisons)
    if prompt[-1].role != "user":
        raise Unusable("prompt does not end with the user's turn", prompt[-1].content)
    if not prompt[-1].content.strip():
        raise Unusable("prompt ends with an empty turn", "")
    try:
        return PreferenceExample(
            prompt=prompt, responses=tuple(Response(content=t) for t in texts), comparisons=tuple(comparisons)
        )
    except ValidationError as error:
        raise DataError(
            f"{error.errors()[0]['msg'].removeprefix('Value error, ')}. Correct the comparison.", field="comparisons"
        ) from None
