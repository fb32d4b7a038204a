"""Parquet files, folders of them, and folders written by ``datasets``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetyvalve.data.schema import Place
from safetyvalve.data.sources.source import Source, SourceRow, choose_split, require
from safetyvalve.errors import DataError

__all__ = ["PARQUET_MAGIC", "dataset_rows", "files_digest", "read_folder", "read_parquet"]

PARQUET_MAGIC = b"PAR1"
_BATCH = 1024
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")


def read_parquet(file: Path) -> Source:
    """One Parquet file."""
    require("pyarrow", file)
    return Source(str(file), "Parquet", files_digest([file]), _parquet_rows([file]))


def read_folder(folder: Path, split: str | None = None) -> Source:
    """A folder written by ``datasets`` (``save_to_disk``), or one of Parquet files, there or in ``data/``.

    Shards named ``SPLIT-00000-of-00002.parquet`` belong to their split; other names are one split together.

    Raises:
        DataError: neither, or several splits of which none is named ``train`` and none was asked for.
    """
    if any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json")):
        return _read_saved(folder, split)
    files = sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))
    if not files:
        raise DataError(
            "is a folder that holds neither Parquet files nor what datasets.save_to_disk writes; accepted: one of "
            "these, or a file. Name the file.",
            file=folder,
        )
    require("pyarrow", folder)
    splits: dict[str, list[Path]] = {}
    for file in files:
        match = _SHARD.fullmatch(file.name)
        splits.setdefault(match["split"] if match else "all", []).append(file)
    chosen = choose_split(list(splits), split, str(folder))
    kind = f"Parquet folder ({len(splits[chosen])} files{f', split {chosen}' if len(splits) > 1 or split else ''})"
    return Source(str(folder), kind, files_digest(splits[chosen]), _parquet_rows(splits[chosen]))


def _read_saved(folder: Path, split: str | None) -> Source:
    datasets = require("datasets", folder)
    try:
        data = datasets.load_from_disk(str(folder))
    except Exception as error:  # datasets passes on what pyarrow, json and the file system raise
        raise DataError(f"cannot be read by datasets ({_first_line(error)}). Save it again.", file=folder) from None
    kind = "datasets folder"
    if isinstance(data, datasets.DatasetDict):
        chosen = choose_split(list(data), split, str(folder))
        kind, data = f"{kind} (split {chosen})", data[chosen]
    elif split is not None:
        raise DataError(f"holds one dataset without splits, and '{split}' was asked for. Leave it out.", file=folder)
    files = [Path(cached["filename"]) for cached in data.cache_files]
    return Source(str(folder), kind, files_digest(files), dataset_rows(data, str(folder)))


def dataset_rows(data: Any, name: str) -> Iterator[SourceRow]:
    """Rows of a ``datasets.Dataset``, as stored: no image or audio column is decoded."""
    tables = data.with_format("arrow").iter(batch_size=_BATCH)
    yield from _numbered(tables, name)


def _parquet_rows(files: Sequence[Path]) -> Iterator[SourceRow]:
    pyarrow, parquet = require("pyarrow", files[0]), require("pyarrow.parquet", files[0])
    for file in files:
        try:
            with parquet.ParquetFile(file) as opened:
                yield from _numbered(opened.iter_batches(batch_size=_BATCH), str(file))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"is not a whole Parquet file ({_first_line(error)}). Copy or download it again.", file=file
            ) from None


def _numbered(batches: Iterable[Any], name: str) -> Iterator[SourceRow]:
    number = 0
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            raise _not_utf8(batch, name, number) from None
        for row in rows:
            number += 1
            yield SourceRow(Place(name, number), row)


def _not_utf8(batch: Any, name: str, before: int) -> DataError:
    for index in range(batch.num_rows):
        for field in batch.schema.names:
            try:
                batch.slice(index, 1).select([field]).to_pylist()
            except UnicodeDecodeError as error:
                return DataError(
                    f"has the byte {error.object[error.start : error.start + 1]!r}, which is not UTF-8, as a text in "
                    "this file must be. Write the file again from texts.",
                    file=name,
                    row=before + index + 1,
                    field=field,
                )
    raise AssertionError("the batch that could not be read can be read row by row")


def files_digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file; of several, of their names and hashes, in the order given."""
    hashes = []
    for file in files:
        with file.open("rb") as opened:
            hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
    if len(files) == 1:
        return hashes[0]
    listed = "".join(f"{h}  {f.name}\n" for h, f in zip(hashes, files, strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
