"""Where things are kept outside of runs. Light, so that a command without a model need not load one's library."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Where converted models, reference log-probabilities and opinions of judges are kept.

    ``$SAFETYVALVE_CACHE``, else ``$XDG_CACHE_HOME/safetyvalve``, else ``~/.cache/safetyvalve``.
    """
    if own := os.environ.get("SAFETYVALVE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "safetyvalve"
