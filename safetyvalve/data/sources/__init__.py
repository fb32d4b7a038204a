"""Where rows come from: recognised by content first, by name where content cannot tell."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

from safetyvalve.data.sources.columnar import PARQUET_MAGIC, read_folder, read_parquet
from safetyvalve.data.sources.delimited import delimiter_of, table_rows
from safetyvalve.data.sources.hub import hub_name, read_hub
from safetyvalve.data.sources.jsons import array_rows, line_rows
from safetyvalve.data.sources.source import Source, SourceRow, split_suffix
from safetyvalve.data.sources.text import decode
from safetyvalve.errors import DataError

__all__ = ["Source", "SourceRow", "open_source"]

_GZIP_MAGIC = b"\x1f\x8b"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook. Save the sheet as CSV UTF-8, or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as CSV UTF-8",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; gzip is accepted. Unpack it",
    b"BZh": "compressed by bzip2; gzip is accepted. Unpack it",
    b"\xfd7zXZ": "compressed by xz; gzip is accepted. Unpack it",
    PARQUET_MAGIC: "a Parquet file inside gzip. Unpack it",
    b"ARROW1": "an Arrow file. Save it as Parquet",
    b"SQLite format 3": "an SQLite database. Export the table as CSV or JSON lines",
}


def open_source(path: str | Path, *, encoding: str = "auto") -> Source:
    """Recognise a source and open it.

    Args:
        path: a file, a folder (``FOLDER:SPLIT`` for one of its splits), or a hub name
            (``ORG/NAME[@REVISION][/CONFIG][:SPLIT]``) where nothing of that name lies on disk.
        encoding: of text files; ``auto`` as :func:`safetyvalve.data.sources.text.decode` says.

    Raises:
        DataError: nothing is there, or what is there cannot be read. Rows raise it as they are read.
    """
    file = Path(path)
    try:
        is_folder, is_there = file.is_dir(), file.exists()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}). Correct the path.", file=file) from None
    if is_folder:
        return read_folder(file)
    if not is_there and isinstance(path, str):
        folder, split = split_suffix(path)
        if split is not None and Path(folder).is_dir():
            return read_folder(Path(folder), split)
        if (name := hub_name(path)) and not Path(name.repository).exists():
            return read_hub(path, name)
    return _open_file(file, encoding)


def _open_file(file: Path, encoding: str) -> Source:
    try:
        with file.open("rb") as opened:
            if opened.read(4) == PARQUET_MAGIC:
                return read_parquet(file)
        raw = file.read_bytes()
    except FileNotFoundError:
        raise DataError("does not exist. Check the path; it is taken from the current folder.", file=file) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}). Check its permissions.", file=file) from None
    digest, packed, name = hashlib.sha256(raw).hexdigest(), "", file.name.lower()
    if raw.startswith(_GZIP_MAGIC):
        try:
            raw, packed, name = gzip.decompress(raw), ", gzip", name.removesuffix(".gz")
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"is not a whole gzip file ({error}). Copy it again.", file=file) from None
    for magic, what in _FOREIGN.items():
        if raw.startswith(magic):
            raise DataError(f"is {what}.", file=file)
    if name.endswith(".parquet"):
        raise DataError("does not begin as a Parquet file does (PAR1). Copy or download it again.", file=file)
    text, encoding = decode(raw, file, encoding)
    opening = text.lstrip()[:1]
    if name.endswith((".csv", ".tsv")) or (opening not in "{[" and not name.endswith((".jsonl", ".json", ".ndjson"))):
        delimiter = delimiter_of(text)
        kind, rows = ("TSV" if delimiter == "\t" else "CSV"), table_rows(text, file, delimiter)
    elif opening == "[":
        kind, rows = "JSON array", array_rows(text, file)
    else:
        kind, rows = "JSONL", line_rows(text, file)
    return Source(str(file), kind + packed, digest, rows, encoding)
