"""One spelling of a value, its hash, and the chain that logs of records are made of."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

__all__ = ["GENESIS", "Head", "canonical", "content_hash", "digest"]

GENESIS = "0" * 64
"""What the first record of a chain follows."""


class Head(NamedTuple):
    """The end of a log: ``0:000...`` where nothing has happened yet."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def canonical(value: object) -> str:
    """JSON with one spelling for one value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON, as hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def content_hash(value: object) -> str:
    """First 16 digits of :func:`digest`: a name for a content."""
    return digest(value)[:16]
