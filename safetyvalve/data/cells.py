"""Cells of tables that a spreadsheet opens and must not run."""

from __future__ import annotations

__all__ = ["safe_cell"]


def safe_cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it; full-width signs too."""
    if isinstance(value, str) and value.lstrip(" \u3000\ufeff").startswith(tuple("=+-@\t\r\n＝＋－＠|%")):
        return "'" + value
    return value
