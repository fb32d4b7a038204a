"""Writing that survives: bytes forced to the disk, and a full disk told from other failures."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from safetyvalve.errors import RunError

__all__ = ["explain_full_disk", "sync"]


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explain_full_disk(path: Path, what: str) -> Iterator[None]:
    """Turn a write that failed for lack of space into a :class:`RunError` that says what is left.

    Args:
        path: a folder on the disk that is written to.
        what: is written, for the message.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_full(error, path):
            raise
        free = shutil.disk_usage(path).free / 2**20
        raise RunError(
            f"the disk of '{path}' is full ({free:.1f} MiB free): {what} could not be written. Nothing written before "
            "was lost. Free some space, then go on with `safetyvalve resume RUN`."
        ) from None


def _is_full(error: Exception, path: Path) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors and torch keep the system's number to themselves, torch its text as well.
    return "No space left" in str(error) or shutil.disk_usage(path).free < 2**20
