"""Excel workbooks of tickets: the first sheet that has cells, values as they were last computed."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetyvalve.data.schema import Place
from safetyvalve.data.sources import Source, SourceRow
from safetyvalve.data.sources.source import require
from safetyvalve.errors import DataError, shorten

__all__ = ["is_workbook", "open_workbook"]

_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!")


def is_workbook(file: Path) -> bool:
    """Whether a file is an xlsx workbook, by its content."""
    try:
        if not zipfile.is_zipfile(file):
            return False
        with zipfile.ZipFile(file) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def open_workbook(file: Path, sheet: str | None = None) -> Source:
    """Rows of a sheet, with the row numbers that Excel shows.

    Args:
        file: an xlsx workbook.
        sheet: its name; the first that has cells if not given.

    Raises:
        DataError: openpyxl is not installed, there is no such sheet, or nothing in it. Rows raise it as they are read.
    """
    openpyxl = require("openpyxl", file, extra="xlsx")
    try:
        book = openpyxl.load_workbook(file, read_only=False, data_only=True)
        formulas = openpyxl.load_workbook(file, read_only=True, data_only=False)
    except Exception as error:  # openpyxl passes on what zip, XML and its own checks raise
        raise DataError(
            f"cannot be read as a workbook ({error}). Save it again as xlsx or CSV UTF-8.", file=file
        ) from None
    names = [s.title for s in book.worksheets]
    if sheet is not None and sheet not in names:
        raise DataError(f"has no sheet '{sheet}'; accepted: {', '.join(names)}.", file=file)
    chosen = next((s for s in book.worksheets if (s.title == sheet if sheet else s.max_row > 1)), None)
    if chosen is None:
        raise DataError(f"has no sheet with a header and a row below it (sheets: {', '.join(names)}).", file=file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Source(str(file), f"xlsx, sheet {chosen.title}", digest, _rows(chosen, formulas[chosen.title], file))


def _rows(sheet: Any, formulas: Any, file: Path) -> Iterator[SourceRow]:
    values = enumerate(sheet.iter_rows(values_only=True), start=1)
    top, names = next((place, row) for place, row in values if any(c is not None for c in row))
    header = [str(c).strip() if c is not None else "" for c in names]
    while header and not header[-1]:
        header.pop()
    for name in header:
        if not name or header.count(name) > 1:
            raise DataError(
                f"the header {'has an empty cell' if not name else f'has {name!r} twice'}; one name a column is "
                "accepted. "
                "Put the header into the first row, name every column once.",
                file=file,
                row=top,
            )
    written = formulas.iter_rows(min_row=top + 1, values_only=True)
    for (place, row), raw in zip(values, written, strict=False):
        if all(c is None for c in row):
            continue
        if extra := [c for c in row[len(header) :] if c is not None]:
            raise DataError(
                f"has {shorten(extra[0])} beyond the last column of the header. Name its column.", file=file, row=place
            )
        fields = dict(zip(header, row, strict=False))
        for name, value, source in zip(header, row, raw, strict=False):
            _check(value, source, file, place, name)
        yield SourceRow(Place(str(file), place), fields)


def _check(value: Any, source: Any, file: Path, row: int, field: str) -> None:
    if isinstance(value, str) and value in _ERRORS:
        raise DataError(
            f"is the error {value}; a value is accepted. Mend the formula.", file=file, row=row, field=field
        )
    if value is None and isinstance(source, str) and source.startswith("="):
        raise DataError(
            f"is the formula {shorten(source)} without a computed value; open and save the workbook in Excel, or paste "
            "values.",
            file=file,
            row=row,
            field=field,
        )
