"""Opinions on disk by content, so that finished work is never asked for again."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safetyvalve.errors import UsageError
from safetyvalve.hashing import content_hash
from safetyvalve.judges.protocol import Opinion, Question

__all__ = ["OpinionCache", "question_key"]


def question_key(settings: Mapping[str, Any], question: Question) -> str:
    """Everything that decides an opinion, as two hashes: the judge's settings; both conversations in their order."""
    sides = [[m.model_dump(mode="json") for m in conversation] for conversation in question]
    return f"{content_hash(dict(settings))}/{content_hash(sides)}"


class OpinionCache:
    """One file an opinion, a folder for each judge's settings; a file is whole or absent, whenever a process is killed.

    Args:
        folder: made if it is not there. Several processes may share it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the cache folder '{folder}' cannot be made ({error.strerror}). Name another with --cache."
            ) from None

    def get(self, key: str) -> Opinion | None:
        """The opinion, or None; a damaged file counts as absent and is written anew."""
        try:
            return Opinion.model_validate_json(self._file(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def put(self, key: str, opinion: Opinion) -> None:
        """On disk when this returns."""
        file = self._file(key)
        file.parent.mkdir(exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        with partial.open("wb") as stream:
            stream.write(opinion.model_dump_json(exclude_none=True).encode())
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"
