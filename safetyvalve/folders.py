"""Where things are kept outside of runs, and how. Light: a command without a model need not load one's library."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "written_whole"]


def cache_folder() -> Path:
    """Where converted models, reference log-probabilities and opinions of judges are kept.

    ``$SAFETYVALVE_CACHE``, else ``$XDG_CACHE_HOME/safetyvalve``, else ``~/.cache/safetyvalve``.
    """
    if own := os.environ.get("SAFETYVALVE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "safetyvalve"


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``file`` at the end: a killed run leaves no half entry, and of two processes
    that write the same one the last stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
