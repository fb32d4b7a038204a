"""Under whose account a command runs: what a run records as its trainer, and a release beside every event."""

from __future__ import annotations

import getpass
import os

__all__ = ["account"]


def account() -> str:
    """``$SAFETYVALVE_USER``, else the account's name; ``unknown`` where it has none."""
    if own := os.environ.get("SAFETYVALVE_USER", "").strip():
        return own
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
