"""Asking a server again: which failures pass, and how long to wait."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from safetyvalve.errors import UsageError

__all__ = ["PASSING", "RetryPolicy", "retry_after"]

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses after which asking again may help."""


class RetryPolicy(NamedTuple):
    """Exponential back-off with full jitter, so that many workers do not come back together.

    Args:
        attempts: in all, at least 1.
        first_wait: longest wait after the first failure, in seconds; it doubles each time.
        longest_wait: bound of a wait, in seconds, also of one that the server asks for.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def checked(self) -> RetryPolicy:
        """Itself.

        Raises:
            UsageError: a value outside its range.
        """
        if self.attempts < 1:
            raise UsageError(f"--attempts is {self.attempts}; at least 1 is accepted.")
        return self

    def wait(self, failures: int, asked: float | None) -> float:
        """Seconds to wait after that many failures; what the server asked for counts, within the bound."""
        if asked is not None:
            return min(asked, self.longest_wait)
        return random.uniform(0, min(self.first_wait * 2 ** (failures - 1), self.longest_wait))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, given as a number or a date; None if it cannot be read."""
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None
