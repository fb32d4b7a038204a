"""What every reader gives: rows with the place of each, and what was recognised."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.data.schema import Place
from safetyvalve.errors import DataError

__all__ = ["Source", "SourceRow", "choose_split", "require", "split_suffix"]


class SourceRow(NamedTuple):
    """One row: where it stands, and its fields."""

    place: Place
    fields: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Rows and what they were taken for."""

    name: str
    kind: str
    """What was recognised, in words: ``JSONL``, ``CSV, gzip``, ``Parquet folder, split train``."""
    sha256: str
    """Of the files as they lie on disk."""
    rows: Iterator[SourceRow]
    encoding: str | None = None
    """Of texts; None where the format says it."""


def require(module: str, file: str | Path, extra: str = "datasets") -> Any:
    """An optional package, and the extra of ours that brings it.

    Raises:
        DataError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"needs the package {error.name or module} to be read, which is not installed. Install it: pip install "
            f"'safetyvalve[{extra}]'.",
            file=file,
        ) from None


def choose_split(splits: Sequence[str], wanted: str | None, name: str) -> str:
    """The split named, or the only one, or ``train``.

    Raises:
        DataError: there is no such split, or none of these rules names one.
    """
    if wanted is None:
        if len(splits) == 1 or "train" in splits:
            return splits[0] if len(splits) == 1 else "train"
        raise DataError(f"has the splits {', '.join(splits)}. Name one: {name}:{splits[0]}.", file=name)
    if wanted not in splits:
        raise DataError(f"has no split '{wanted}'; accepted: {', '.join(splits)}.", file=name)
    return wanted


def split_suffix(name: str) -> tuple[str, str | None]:
    """``NAME:SPLIT`` as (NAME, SPLIT); (NAME, None) without one."""
    match = re.fullmatch(r"(.+):([\w.-]+)", name)
    return (match[1], match[2]) if match else (name, None)
