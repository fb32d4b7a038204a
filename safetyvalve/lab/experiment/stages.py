"""Stages of an experiment: each is a file that appears when it is whole, and is not made again."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetyvalve.errors import DataError, RunError

__all__ = ["by_id", "locked", "stage"]

Row = dict[str, Any]


def stage(file: Path, make: Callable[[], Iterable[Mapping[str, Any]]]) -> list[Row]:
    """The rows of ``file``, made first where it is not there.

    Raises:
        RunError: it is damaged or cannot be written.
    """
    if not file.is_file():
        rows = [dict(row) for row in make()]
        partial = file.with_name(file.name + ".partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(file)
        except OSError as error:
            raise RunError(f"'{file}' cannot be written ({error.strerror}); what was made before is kept.") from None
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    except ValueError as error:
        raise RunError(f"'{file}' is damaged ({error}). Remove it, and it is made again.") from None


def by_id(rows: Iterable[Row], wanted: Iterable[str], file: Path) -> dict[str, Row]:
    """Rows by ``response_id``.

    Raises:
        DataError: an answer that is wanted has no row: the files are of different experiments.
    """
    found = {str(row["response_id"]): row for row in rows}
    missing = [name for name in dict.fromkeys(wanted) if name not in found]
    if missing:
        raise DataError(
            f"lacks {len(missing)} of the answers that it is to be joined with ({missing[0]}, ...); files of one "
            "experiment are accepted. Remove it: it is made again.",
            file=file,
        )
    return found


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone; made if it is missing.

    Raises:
        RunError: it cannot be made, or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"'{folder}' cannot be made or opened ({error.strerror}). Name another --output.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"'{folder}' is being written by another process. Wait for it, or end it first.") from None
        yield
    finally:
        os.close(handle)
