"""Files to examples. One loader a source, all giving one schema; errors cite file, row and field."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetyvalve.data.forms import FORMS, Unusable, recognise
from safetyvalve.data.report import DataReport, DroppedRow, Loaded
from safetyvalve.data.schema import PreferenceExample
from safetyvalve.data.splits import opening_turn
from safetyvalve.errors import DataError, UsageError, shorten

__all__ = ["load_preferences"]


def load_preferences(path: str | Path, *, form: str = "auto", max_drop: float = 0.01) -> Loaded:
    """Read preference data from a JSONL file, plain or gzipped.

    Args:
        path: the file. Its first bytes, not its name, tell whether it is gzipped.
        form: a name in :data:`safetyvalve.data.FORMS`, or ``auto`` to recognise it from the first row.
        max_drop: largest share of rows in [0, 1] that may be dropped before it counts as an error.

    Returns:
        The examples in file order, and a report of every row left out.

    Raises:
        DataError: the file is missing, empty or malformed, or more than ``max_drop`` of it was dropped.
        UsageError: an unknown form, or ``max_drop`` outside [0, 1].
    """
    if form != "auto" and form not in FORMS:
        raise UsageError(f"format is '{form}'; accepted: auto, {', '.join(FORMS)}.")
    if not 0 <= max_drop <= 1:
        raise UsageError(f"max-drop is {max_drop}; it is a share between 0 and 1, such as 0.01.")
    file = Path(path)
    raw = _read(file)
    examples: list[PreferenceExample] = []
    dropped: list[DroppedRow] = []
    for number, row in _rows(raw, file):
        try:
            if form == "auto":
                form = recognise(row)
            examples.append(FORMS[form](row))
        except Unusable as why:
            dropped.append(DroppedRow(file=str(file), row=number, reason=why.reason, value=why.value))
        except DataError as error:
            raise DataError(str(error), file=file, row=number) from None
    report = _report(file, raw, form, examples, dropped)
    if not report.rows:
        raise DataError(
            "has no rows; accepted: one JSON object a line. Check that the right file was named.", file=file
        )
    if report.dropped_share > max_drop:
        reason, rows = next(iter(report.reasons().items()))
        raise DataError(
            f"{len(dropped)} of {report.rows} rows would be dropped ({report.dropped_share:.1%}; {reason}: "
            f"{len(rows)}), more than --max-drop {max_drop:g}. Mend the rows that `safetyvalve data check` lists, or "
            "raise --max-drop.",
            file=file,
            row=rows[0].row,
        )
    return Loaded(examples, report)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError("does not exist. Check the path; it is taken from the current folder.", file=file) from None
    except IsADirectoryError:
        raise DataError("is a folder; a JSONL file, plain or .gz, is accepted.", file=file) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}). Check its permissions.", file=file) from None


def _rows(raw: bytes, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"is not a whole gzip file ({error}). Copy it again.", file=file) from None
    # splitlines() would also split at U+2028 and others, which JSON allows inside a text.
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise DataError(
                f"byte {error.start} is {line[error.start : error.start + 1]!r}, which is not UTF-8. Save the file as "
                "UTF-8 (Japanese Excel and Notepad save cp932 by default).",
                file=file,
                row=number,
            ) from None
        except RecursionError:
            raise DataError(
                "is nested too deeply; one flat JSON object a line is accepted.", file=file, row=number
            ) from None
        except json.JSONDecodeError as error:
            raise DataError(
                f"is not JSON ({error.msg} at column {error.colno}): {shorten(line.decode())}. "
                "One JSON object a line is accepted.",
                file=file,
                row=number,
            ) from None
        if re.search(rb"\\u[dD][89a-fA-F]", line) and any(
            0xD800 <= ord(c) < 0xE000 for c in json.dumps(row, ensure_ascii=False)
        ):
            raise DataError(
                "has half of a surrogate pair (\\ud800 to \\udfff), which is no character. Write the whole character.",
                file=file,
                row=number,
            )
        if not isinstance(row, dict):
            raise DataError(f"is {shorten(row)}; a JSON object is accepted.", file=file, row=number)
        yield number, row


def _report(
    file: Path, raw: bytes, form: str, examples: list[PreferenceExample], dropped: list[DroppedRow]
) -> DataReport:
    lengths = [
        (len(e.responses[c.winner].content), len(e.responses[c.loser].content)) for e in examples for c in e.comparisons
    ]
    unequal = [(won, lost) for won, lost in lengths if won != lost]
    return DataReport(
        file=str(file),
        sha256=hashlib.sha256(raw).hexdigest(),
        form=form,
        rows=len(examples) + len(dropped),
        kept=len(examples),
        dropped=dropped,
        duplicates=len(examples) - len({e.id for e in examples}),
        comparisons=len(lengths),
        prompts_opening=len({opening_turn(e) for e in examples}),
        longer_won=sum(won > lost for won, lost in unequal) / len(unequal) if unequal else None,
    )
