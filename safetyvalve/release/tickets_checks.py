"""What is wrong with tickets taken together: months that are missing, and elapsed time in the place of labour."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from safetyvalve.errors import DataError

__all__ = ["check_elapsed", "check_months"]

LEAST_TIMED = 5
"""Tickets with both times from which on the comparison is made."""


class _Timed(Protocol):
    @property
    def created_at(self) -> datetime: ...
    @property
    def solved_at(self) -> datetime | None: ...
    @property
    def handle_min(self) -> float | None: ...
    @property
    def file(self) -> str: ...
    @property
    def row(self) -> int: ...


def check_months(rows: Sequence[_Timed]) -> None:
    """Refuse a month without a ticket between two that have some.

    Args:
        rows: by the time they came in.

    Raises:
        DataError: names the months, and the first ticket after the gap.
    """
    for before, after in itertools.pairwise(rows):
        missing = list(_between(before.created_at, after.created_at))
        if missing:
            named = ", ".join(f"{y}-{m:02d}" for y, m in missing)
            raise DataError(
                f"came in at {after.created_at:%Y-%m-%d}, and the ticket before it at {before.created_at:%Y-%m-%d}: "
                "there "
                f"is no ticket of {named}. A rate over a gap is none. Export the missing months, or take one side of "
                "the "
                "gap with --since or --until.",
                file=after.file,
                row=after.row,
            )


def _between(before: datetime, after: datetime) -> list[tuple[int, int]]:
    first, last = before.year * 12 + before.month, after.year * 12 + after.month - 2
    return [(n // 12, n % 12 + 1) for n in range(first, last + 1)]


def check_elapsed(rows: Sequence[_Timed]) -> None:
    """Refuse handling time that is the time from opening to solving.

    Work on a ticket and its time on the clock are equal by chance once in a while. Where they agree to a minute (or one
    in a hundred) on half of all tickets, the column is not labour.

    Raises:
        DataError: names the first such row.
    """
    timed = [
        (t, t.handle_min, (t.solved_at - t.created_at).total_seconds() / 60)
        for t in rows
        if t.solved_at is not None and t.handle_min is not None
    ]
    same = [t for t, work, clock in timed if clock > 0 and abs(work - clock) <= max(1.0, 0.01 * clock)]
    if len(timed) >= LEAST_TIMED and 2 * len(same) >= len(timed):
        raise DataError(
            f"handling time is the time from created_at to solved_at, here and in {len(same)} of {len(timed)} tickets: "
            "that is elapsed time, with nights and waiting, and no labour. Give the minutes somebody worked "
            "(handle_min, "
            "対応時間). If each ticket was worked on without a pause, as on the telephone, leave solved_at out.",
            file=same[0].file,
            row=same[0].row,
            field="handle_min",
        )
