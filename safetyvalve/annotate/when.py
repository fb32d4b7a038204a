"""Times as pages show them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["date_of"]


def date_of(milliseconds: int) -> str:
    """``2026-11-22 18:40 UTC``."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
