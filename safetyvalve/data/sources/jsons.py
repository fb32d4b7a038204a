"""JSON lines, and one JSON array of rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetyvalve.data.schema import Place
from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, shorten

__all__ = ["array_rows", "line_rows"]


def line_rows(text: str, file: Path) -> Iterator[SourceRow]:
    """One object a line; the row of a place is its line."""
    # splitlines() would also split at U+2028 and others, which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _checked(_parsed(line, file, number), file, number, escaped=_may_be_half(line))


def array_rows(text: str, file: Path) -> Iterator[SourceRow]:
    """One array of objects; the row of a place is the element's position, counted from 1."""
    rows = _parsed(text, file, None)
    escaped = _may_be_half(text)
    for number, row in enumerate(rows, start=1):
        yield _checked(row, file, number, escaped=escaped)


def _may_be_half(text: str) -> bool:
    """Whether JSON escapes a surrogate: cheap, so that few rows are searched for one without its other half."""
    return re.search(r"\\u[dD][89a-fA-F]", text) is not None


def _parsed(text: str, file: Path, number: int | None) -> Any:
    accepted = "One JSON object a line, or one array of objects, is accepted."
    try:
        return json.loads(text, object_pairs_hook=_no_field_twice)
    except _Twice as twice:
        raise DataError("stands twice in one object. Keep one.", file=file, row=number, field=str(twice)) from None
    except RecursionError:
        raise DataError(f"is nested too deeply. {accepted}", file=file, row=number) from None
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1]
        raise DataError(
            f"is not JSON ({error.msg} at column {error.colno}): {shorten(line)}. {accepted}",
            file=file,
            row=number or error.lineno,
        ) from None


class _Twice(Exception):  # noqa: N818 - carries a name out of the parser
    pass


def _no_field_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return fields


def _checked(row: Any, file: Path, number: int, *, escaped: bool) -> SourceRow:
    if escaped and re.search("[\ud800-\udfff]", json.dumps(row, ensure_ascii=False)):
        raise DataError(
            "has half of a surrogate pair (\\ud800 to \\udfff), which is no character. Write the whole character.",
            file=file,
            row=number,
        )
    if not isinstance(row, dict):
        raise DataError(f"is {shorten(row)}; a JSON object is accepted.", file=file, row=number)
    return SourceRow(Place(str(file), number), row)
