"""Fields of a row, or an error that names file, row and field."""

from __future__ import annotations

from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, shorten

__all__ = ["missing", "name_of", "text_of"]


def text_of(row: SourceRow, field: str) -> str:
    """A text, which may be empty.

    Raises:
        DataError: it is not there or no text.
    """
    value = row.fields.get(field)
    if not isinstance(value, str):
        raise DataError(f"is {shorten(value)}; a text is needed.", file=row.place.file, row=row.place.row, field=field)
    return value


def name_of(row: SourceRow, field: str) -> str:
    """A text that is not empty.

    Raises:
        DataError: otherwise.
    """
    value = text_of(row, field)
    if not value.strip():
        raise DataError("is empty; a name is needed.", file=row.place.file, row=row.place.row, field=field)
    return value


def missing(row: SourceRow, accepted: str) -> DataError:
    """The error for a row of an unknown form."""
    return DataError(
        f"has the fields {', '.join(map(repr, row.fields)) or '(none)'}; accepted: {accepted}.",
        file=row.place.file,
        row=row.place.row,
    )
