"""What an annotator has done so far, in one query: it decides what comes next and on which side."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import BindParameter, bindparam, func, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.models import Annotator, Assignment

__all__ = ["JUDGED", "Tally", "judged"]

# Statements of every page are made once: building one costs as much as running it.
_ME: BindParameter[Any] = bindparam("annotator")
_COUNTED = Assignment.state.in_(("done", "late"))
JUDGED = (
    select(func.count())
    .where(Assignment.annotator_id == _ME, Assignment.kind == "regular", Assignment.repeat == 0, _COUNTED)
    .correlate(None)  # also within a statement about an assignment
)
"""What :func:`judged` asks, of the parameter ``annotator``."""
_TALLY = (
    select(
        Assignment.kind,
        func.count(),
        func.count().filter(Assignment.swapped),
        func.count().filter(_COUNTED),
        func.count().filter(Assignment.to_repeat, Assignment.state == "done"),
    )
    .where(Assignment.annotator_id == _ME, Assignment.repeat == 0)
    .group_by(Assignment.kind)
)


class _Count(NamedTuple):
    seen: int = 0
    swapped: int = 0
    judged: int = 0
    to_repeat: int = 0


class Tally(NamedTuple):
    """Counts of an annotator's items by kind, repeats left out."""

    kinds: dict[str, _Count]

    @classmethod
    def of(cls, session: Session, annotator: Annotator) -> Tally:
        rows = session.execute(_TALLY, {"annotator": annotator.id})
        return cls({kind: _Count(*counts) for kind, *counts in rows})

    def seen(self, kind: str) -> int:
        """Items of a kind that were before the annotator, judged or not."""
        return self.kinds.get(kind, _Count()).seen

    def swapped(self, kind: str) -> int:
        """Of these, the ones with sides swapped."""
        return self.kinds.get(kind, _Count()).swapped

    @property
    def judged(self) -> int:
        """As :func:`judged`."""
        return self.kinds.get("regular", _Count()).judged

    @property
    def to_repeat(self) -> int:
        """Judged items that are to be shown again, and were not yet."""
        return self.kinds.get("regular", _Count()).to_repeat


def judged(session: Session, annotator: Annotator) -> int:
    """Regular items that the annotator has judged, repeats left out."""
    return session.scalar(JUDGED, {"annotator": annotator.id}) or 0
