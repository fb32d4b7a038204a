"""CSV and TSV with a header: cells are texts, an empty cell is a null."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetyvalve.data.schema import Place
from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, shorten

__all__ = ["delimiter_of", "table_rows"]

_JSON_COLUMNS = {
    "responses",
    "comparisons",
    "completions",
    "ranking",
    "ranks",
    "scores",
    "score_chosen",
    "score_rejected",
}
"""Columns that are never texts: their cells are JSON."""

_WRITTEN_MESSAGES = re.compile(r"\s*\[\s*\{\s*['\"](role|content)['\"]\s*:")


def delimiter_of(text: str) -> str:
    """Of tab, comma and semicolon (Excel in Europe) the one that cuts the first line most often; comma if none does."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    return max(",\t;", key=first.count)


def table_rows(text: str, file: Path, delimiter: str) -> Iterator[SourceRow]:
    """One row a record; its number is the one that a spreadsheet shows: the header is row 1."""
    records = _records(text, file, delimiter)
    start = next((n for n, record in enumerate(records) if record), None)
    if start is None:
        return
    header = [name.strip() for name in records[start]]
    if len(header) < 2:
        raise DataError(
            f"begins with {shorten(header[0])}, which is neither JSON nor a header of several columns; accepted: JSON "
            "lines, a JSON array, CSV or TSV with a header, Parquet. Convert the file.",
            file=file,
            row=start + 1,
        )
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"has the column {name!r} twice. Rename one.", file=file, row=start + 1)
    for number, record in enumerate(records[start + 1 :], start=start + 2):
        if record:
            yield SourceRow(Place(str(file), number), _fields(header, record, file, number))


def _records(text: str, file: Path, delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    limit = csv.field_size_limit(sys.maxsize)  # the limit is global; the default refuses long responses
    try:
        records.extend(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(
            f"is not well-formed CSV ({error}). Close every quote, and write a quote inside a cell twice.",
            file=file,
            row=len(records) + 1,
        ) from None
    finally:
        csv.field_size_limit(limit)
    return records


def _fields(header: list[str], record: list[str], file: Path, number: int) -> dict[str, Any]:
    if len(record) != len(header):
        raise DataError(
            f"has {len(record)} cells, the header {len(header)}: {shorten(record)}. Quote cells that hold the "
            "delimiter or a line break.",
            file=file,
            row=number,
        )
    return {name: _cell(name, cell, file, number) for name, cell in zip(header, record, strict=True)}


def _cell(name: str, cell: str, file: Path, number: int) -> Any:
    if not cell:
        return None
    if name in _JSON_COLUMNS:
        try:
            return json.loads(cell)
        except (json.JSONDecodeError, RecursionError):
            return cell  # the form says what it accepts there
    if _WRITTEN_MESSAGES.match(cell):
        raise DataError(
            f"is a list of messages written as text: {shorten(cell)}; a plain text is accepted in CSV. Convert the "
            "file to JSON lines or Parquet, where lists stay lists.",
            file=file,
            row=number,
            field=name,
        )
    return cell
