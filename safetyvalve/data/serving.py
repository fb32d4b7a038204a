"""Files of prompts that a model is to serve: one a row, without responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.data.schema import Message, Place, Prompt
from safetyvalve.errors import DataError, shorten

__all__ = ["ServingPrompt", "load_serving_prompts"]


class ServingPrompt(NamedTuple):
    """A prompt to be served and where it was read."""

    prompt: Prompt
    place: Place


def load_serving_prompts(path: str | Path) -> list[ServingPrompt]:
    """Read prompts from UTF-8 text: JSONL whose rows have ``prompt`` (a text or messages), or one prompt a line.

    The file is JSONL where its first line that is not empty begins with ``{``. Empty lines are skipped.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or a row has no prompt.
    """
    file = Path(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror}); JSONL with prompt, or plain text with one prompt a line, is accepted. "
            "Check the path.",
            file=file,
        ) from None
    # splitlines() would also split at U+2028 and others, which may stand inside a prompt.
    lines = [(i, line) for i, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if line.strip()]
    if not lines:
        raise DataError("has no prompts; accepted: JSONL with prompt, or plain text with one prompt a line.", file=file)
    as_json = lines[0][1].lstrip().startswith(b"{")
    found = []
    for number, line in lines:
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise DataError(
                f"byte {error.start} is {line[error.start : error.start + 1]!r}, which is not UTF-8. Save the file as "
                "UTF-8 (Japanese Excel and Notepad save cp932 by default).",
                file=file,
                row=number,
            ) from None
        prompt = _of_json(text, file, number) if as_json else (Message(role="user", content=text),)
        found.append(ServingPrompt(prompt, Place(str(file), number)))
    return found


def _of_json(text: str, file: Path, number: int) -> Prompt:
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"is not JSON ({error}): {shorten(text)}. One JSON object with prompt a line is accepted; a file of plain "
            "prompts must not begin with '{'.",
            file=file,
            row=number,
        ) from None
    value = row.get("prompt") if isinstance(row, dict) else None
    if isinstance(value, str) and value.strip():
        return (Message(role="user", content=value.strip()),)
    if isinstance(value, list) and value:
        try:
            return tuple(_message(item) for item in value)
        except (TypeError, ValueError):
            pass
    raise DataError(
        f"has prompt {shorten(value)}; a text, or a list of messages with role (system, user, assistant) and content, "
        "is accepted.",
        file=file,
        row=number,
        field="prompt",
    )


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise TypeError
    return Message(role=item.get("role"), content=item.get("content"))  # type: ignore[arg-type]
