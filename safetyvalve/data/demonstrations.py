"""Prompts with responses that nobody compared: what SFT learns from.

Forms of a row, by the names that TRL and others use:

- a prompt and a response: ``prompt``, ``instruction`` or ``question`` (with Alpaca's ``input`` after it where it is not
  empty), and ``completion``, ``response``, ``output`` or ``answer``, each a text or a list of messages; or
  ``responses``, a list of texts;
- a conversation: ``messages`` or ``conversations``, a list of {role, content} or of ShareGPT's {from, value}. Its last
  turn is the response, which alone is learned; all before it is the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from safetyvalve.data.forms.fields import Row, Unusable, messages
from safetyvalve.data.report import DataReport, DroppedRow, Loaded, refuse_dropped
from safetyvalve.data.schema import Comparison, Place, PreferenceExample, Prompt, Response
from safetyvalve.data.sources import open_source
from safetyvalve.data.splits import opening_turn
from safetyvalve.errors import DataError, UsageError, shorten

__all__ = ["DEMONSTRATION_FORMS", "Demonstration", "holds_demonstrations", "load_demonstrations"]

_PROMPTS = ("prompt", "instruction", "question")
_RESPONSES = ("completion", "response", "output", "answer", "responses")
_CONVERSATIONS = ("messages", "conversations")
_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}

_Turns = tuple[Prompt, tuple[str, ...]]
"""A prompt and its responses."""


class Demonstration(PreferenceExample):
    """A prompt with its K >= 1 responses and no comparison of them."""

    responses: Annotated[tuple[Response, ...], Field(min_length=1)]
    comparisons: Annotated[tuple[Comparison, ...], Field(max_length=0)] = ()


def holds_demonstrations(path: str | Path, *, encoding: str = "auto") -> bool:
    """Whether the first row has a response and no comparison.

    Raises:
        DataError: the source cannot be read, or its first row is malformed.
    """
    return any(_form_of(row.fields) is not None for row in islice(open_source(path, encoding=encoding).rows, 1))


def load_demonstrations(
    path: str | Path, *, form: str = "auto", max_drop: float = 0.01, encoding: str = "auto"
) -> Loaded:
    """Read prompts with responses from the sources that :func:`safetyvalve.data.load_preferences` reads.

    Rows of equal prompts become one example, in the place of the first, so that the prompt is computed once; a response
    that a prompt has twice is counted as a duplicate and kept once.

    Args:
        path: a file, a folder or a hub name.
        form: a name in :data:`DEMONSTRATION_FORMS`, or ``auto`` to recognise it from the first row.
        max_drop: largest share of rows in [0, 1] that may be dropped before it counts as an error.
        encoding: of text files; ``auto`` recognises it.

    Raises:
        DataError: the source is missing, empty or malformed, or more than ``max_drop`` of it was dropped.
        UsageError: an unknown form, or ``max_drop`` outside [0, 1].
    """
    if form != "auto" and form not in DEMONSTRATION_FORMS:
        raise UsageError(f"format is '{form}'; accepted for demonstrations: auto, {', '.join(DEMONSTRATION_FORMS)}.")
    if not 0 <= max_drop <= 1:
        raise UsageError(f"max-drop is {max_drop}; it is a share between 0 and 1, such as 0.01.")
    source = open_source(path, encoding=encoding)
    found: dict[Prompt, list[str]] = {}
    places: dict[Prompt, Place] = {}
    dropped: list[DroppedRow] = []
    rows = duplicates = 0
    for place, row in source.rows:
        rows += 1
        try:
            if form == "auto":
                form = _recognise(row)
            prompt, texts = _checked(*DEMONSTRATION_FORMS[form](row))
        except Unusable as why:
            dropped.append(DroppedRow(file=place.file, row=place.row, reason=why.reason, value=why.value))
            continue
        except DataError as error:
            raise DataError(str(error), file=place.file, row=place.row) from None
        known = found.setdefault(prompt, [])
        places.setdefault(prompt, place)
        fresh = [t for t in dict.fromkeys(texts) if t not in known]
        duplicates += not fresh
        known += fresh
    examples: list[PreferenceExample] = [
        Demonstration(prompt=prompt, responses=tuple(Response(content=t) for t in texts), place=places[prompt])
        for prompt, texts in found.items()
    ]
    report = DataReport(
        file=source.name,
        source=source.kind,
        encoding=source.encoding,
        sha256=source.sha256,
        form=form,
        rows=rows,
        kept=rows - len(dropped),
        dropped=dropped,
        duplicates=duplicates,
        prompts_opening=len({opening_turn(e) for e in examples}),
    )
    if not report.rows:
        raise DataError("has no rows; at least one is accepted. Check that the right file was named.", file=report.file)
    refuse_dropped(report, max_drop)
    return Loaded(examples, report)


def _form_of(row: Row) -> str | None:
    has = {name for name, value in row.items() if value is not None}
    if has & {"chosen", "rejected", "comparisons", "ranking", "ranks", "scores", "completions", "label", "labels"}:
        return None
    if has & set(_PROMPTS) and has & set(_RESPONSES):
        return "prompt-response"
    return "conversation" if has & set(_CONVERSATIONS) else None


def _recognise(row: Row) -> str:
    form = _form_of(row)
    if form is None:
        raise DataError(
            f"has the fields {', '.join(map(repr, row)) or '(none)'}, no known form of a prompt with a response; "
            f"accepted: one of {', '.join(_PROMPTS)} with one of {', '.join(_RESPONSES)}; or "
            f"{' or '.join(_CONVERSATIONS)}. Rename the fields."
        )
    return form


def _prompt_and_response(row: Row) -> _Turns:
    asked, answered = _first(row, _PROMPTS), _first(row, _RESPONSES)
    value, answer = row[asked], row[answered]
    context = row.get("input")
    if isinstance(value, str) and isinstance(context, str) and context.strip():
        value = f"{value}\n\n{context}"
    prompt = messages(value, asked)
    if answered == "responses":
        if not isinstance(answer, list) or not answer or not all(isinstance(a, str) for a in answer):
            raise DataError(f"is {shorten(answer)}; a list of texts is accepted.", field=answered)
        return prompt, tuple(answer)
    if isinstance(answer, str):
        return prompt, (answer,)
    turns = messages(answer, answered)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise DataError(
            f"is a list of {len(turns)} messages ending with role '{turns[-1].role}'; one assistant message is "
            "accepted. Put the turns before it into the prompt.",
            field=answered,
        )
    return prompt, (turns[0].content,)


def _conversation(row: Row) -> _Turns:
    field = _first(row, _CONVERSATIONS)
    value = row[field]
    if isinstance(value, list):
        value = [_spelled(item) for item in value]
    if isinstance(value, str):
        raise DataError(f"is the text {shorten(value)}; a list of messages is accepted.", field=field)
    turns = messages(value, field)
    if turns[-1].role != "assistant":
        raise Unusable(f"{field} does not end with the assistant's turn", turns[-1].content)
    if len(turns) == 1:
        raise Unusable(f"{field} has no turn before the answer", turns[0].content)
    return turns[:-1], (turns[-1].content,)


def _spelled(item: Any) -> Any:
    """ShareGPT's {from, value} as {role, content}."""
    if isinstance(item, Mapping) and {"from", "value"} <= set(item):
        return {"role": _SHAREGPT.get(str(item["from"]), item["from"]), "content": item["value"]}
    return item


def _first(row: Row, names: tuple[str, ...]) -> str:
    for name in names:
        if row.get(name) is not None:
            return name
    if any(name in row for name in names):
        raise Unusable(f"{' and '.join(n for n in names if n in row)} is null or an empty cell", None)
    raise DataError(
        f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'} and none of {', '.join(names)}. Add one.",
        field=names[0],
    )


def _checked(prompt: Prompt, texts: tuple[str, ...]) -> _Turns:
    if prompt[-1].role != "user":
        raise Unusable("prompt does not end with the user's turn", prompt[-1].content)
    if not prompt[-1].content.strip():
        raise Unusable("prompt ends with an empty turn", "")
    stripped = tuple(t.strip() for t in texts)
    if not all(stripped):
        raise Unusable("response is empty", texts)
    return prompt, stripped


DEMONSTRATION_FORMS: dict[str, Callable[[Row], _Turns]] = {
    "prompt-response": _prompt_and_response,
    "conversation": _conversation,
}
"""Forms of demonstrations by the name that ``--format`` accepts under ``--objective sft``."""
