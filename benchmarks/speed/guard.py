"""Is a workload slower, against its peer, than it was recorded?"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.record import rows_of, same_processor

__all__ = ["SLACK", "fallen"]

SLACK = 0.15
"""Share by which a ratio may be below the recorded one."""


def fallen(name: str, row: dict[str, Any], machine: dict[str, Any], recorded: dict[str, Any]) -> str | None:
    """What to say where the ratio has fallen; None where it has not, or where the record is of another processor or of
    other data."""
    before = next((r for r in rows_of(recorded, name) if same_processor(r, machine)), None)
    if before is None or before.get("data") != row.get("data"):
        return None
    least = (1 - SLACK) * before["ratio"]
    if row["ratio"] >= least:
        return None
    return (
        f"{name}: the ratio is {row['ratio']:.2f}; recorded is {before['ratio']:.2f}, and below {least:.2f} it has "
        "fallen too far. The record stays. Find what became slower, or record it with --accept."
    )
