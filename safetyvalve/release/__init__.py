"""From numbers to a decision: key figures, return on investment, staged release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safetyvalve.release.staged.record import ReleaseRecord, release_record

__all__ = ["ReleaseRecord", "release_record"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from safetyvalve.release.staged import record

    return getattr(record, name)
