"""Sources to examples, in one schema; errors cite file, row and field."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from safetyvalve.data.forms import FORMS, Row, Unusable, recognise
from safetyvalve.data.report import DataReport, DroppedRow, Loaded, count, refuse_dropped
from safetyvalve.data.schema import Place, PreferenceExample, Response
from safetyvalve.data.sources import Source, SourceRow, open_source
from safetyvalve.errors import DataError, UsageError, shorten

__all__ = ["load_preferences"]

_FIRST_ROWS = 20


def load_preferences(
    path: str | Path,
    *,
    form: str = "auto",
    max_drop: float = 0.01,
    baseline_column: str | None = None,
    encoding: str = "auto",
) -> Loaded:
    """Read preference data: JSON lines, a JSON array, CSV, TSV, Parquet, a ``datasets`` folder or a hub dataset.

    Rows count from 1: the line of JSON lines, the row a spreadsheet shows of CSV (its header is row 1), the
    position in anything else.

    Args:
        path: a file, plain or gzipped; a folder of Parquet files or one that ``datasets`` saved, ``FOLDER:SPLIT``
            for one of its splits; or ``ORG/NAME[@REVISION][/CONFIG][:SPLIT]`` on the Hugging Face hub.
        form: a name in :data:`safetyvalve.data.FORMS`, or ``auto`` to recognise it from the first rows.
        max_drop: largest share of rows in [0, 1] that may be dropped before it counts as an error.
        baseline_column: a field with a text or a list of texts, which become each example's ``baseline``.
        encoding: of text files; ``auto`` reads UTF-8, what a byte-order mark says, and cp932 beyond doubt.

    Returns:
        The examples in file order, and a report of every row left out.

    Raises:
        DataError: the data are missing, empty or malformed, a row does not fit the form, an ``id`` comes twice, a
            baseline is missing, or more than ``max_drop`` of the rows was dropped.
        UsageError: an unknown form or encoding, or ``max_drop`` outside [0, 1].
    """
    if form != "auto" and form not in FORMS:
        raise UsageError(f"format is '{form}'; accepted: auto, {', '.join(FORMS)}.")
    if not 0 <= max_drop <= 1:
        raise UsageError(f"max-drop is {max_drop}; it is a share between 0 and 1, such as 0.01.")
    source = open_source(path, encoding=encoding)
    rows, known = _recognised(source.rows) if form == "auto" else (source.rows, form)
    examples: list[PreferenceExample] = []
    dropped: list[DroppedRow] = []
    seen: dict[Any, Place] = {}
    for place, fields in rows:
        try:
            _refuse_second(fields.get("id"), place, seen)
            if form == "auto":
                _refuse_other_form(fields, known)
            example = FORMS[known](fields)
            baseline = _baseline(fields, baseline_column)
            examples.append(example.model_copy(update={"place": place, "baseline": baseline}))
        except Unusable as why:
            dropped.append(DroppedRow(file=place.file, row=place.row, reason=why.reason, value=why.value))
        except DataError as error:
            raise DataError(str(error), file=place.file, row=place.row) from None
    report = _report(source, known, examples, dropped)
    if not report.rows:
        raise DataError(
            f"has no rows (it was read as {source.kind}); at least one is accepted. Check that the right file was "
            "named.",
            file=source.name,
        )
    refuse_dropped(report, max_drop)
    return Loaded(examples, report)


def _recognised(rows: Iterator[SourceRow]) -> tuple[Iterator[SourceRow], str]:
    """The rows again, and their form: that of the first of the first rows that has one."""
    first = list(islice(rows, _FIRST_ROWS))
    refusal: DataError | None = None
    for row in first:
        try:
            return chain(first, rows), recognise(row.fields)
        except DataError as error:
            refusal = refusal or DataError(str(error), file=row.place.file, row=row.place.row)
    if refusal is not None:
        raise refusal
    return iter(first), "unknown"


def _refuse_other_form(fields: Row, form: str) -> None:
    try:
        found = recognise(fields)
    except DataError:
        return  # reading it as the form tells better what it lacks
    if found != form:
        raise DataError(
            f"is of the form '{found}', while the first rows are of the form '{form}'; one form in a file is accepted. "
            "Split the file, or name the form with --format."
        )


def _refuse_second(name: object, place: Place, seen: dict[Any, Place]) -> None:
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        return
    if name in seen:
        raise DataError(
            f"is {shorten(name)}, which {seen[name]} has too; ids that differ are accepted. Remove the copy, or rename "
            "the field if it does not identify rows.",
            field="id",
        )
    seen[name] = place


def _baseline(fields: Row, column: str | None) -> tuple[Response, ...]:
    if column is None:
        return ()
    value = fields.get(column)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise DataError(
            f"is {shorten(value) if column in fields else 'missing'}; a text or a list of texts, none empty, is "
            "accepted as baseline. Add it, or leave the row out.",
            field=column,
        )
    return tuple(Response(content=t.strip()) for t in texts)


def _report(source: Source, form: str, examples: list[PreferenceExample], dropped: list[DroppedRow]) -> DataReport:
    return DataReport(
        file=source.name,
        source=source.kind,
        encoding=source.encoding,
        sha256=source.sha256,
        form=form,
        rows=len(examples) + len(dropped),
        dropped=dropped,
        kept=len(examples),
        **count(examples),
    )
