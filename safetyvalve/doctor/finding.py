"""One line of the examination."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Finding"]


class Finding(NamedTuple):
    """What was looked at and what was found."""

    check: str
    status: Literal["ok", "note", "problem"]
    """``note`` limits or slows something; with a ``problem`` training does not work."""
    found: str
    remedy: str = ""
