"""A share with its interval, and how rows are named in a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

from pydantic import BaseModel, ConfigDict

from safetyvalve.data.schema import Place, PreferenceExample

__all__ = ["Record", "Share", "place_of", "rows_said", "share_of"]


class Record(BaseModel):
    """A part of the data report: frozen, and the same in Python and in JSON."""

    model_config = ConfigDict(frozen=True)


class Share(Record):
    """A share of ``n`` independent units, in [0, 1], with a two-sided 95% interval."""

    share: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.share:.1%} (95% interval {self.low:.1%} to {self.high:.1%}, n = {self.n})"


def share_of(total: float, n: int) -> Share:
    """Wilson's interval of a share.

    Args:
        total: sum over units of a value in [0, 1]. With values between 0 and 1 the interval is too wide rather than too
            narrow: no such value varies more than a 0/1 value of the same mean.
        n: units, at least 1.
    """
    z = NormalDist().inv_cdf(0.975)
    p = total / n
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and 1 the formula gives the bound itself, up to the last bit.
    return Share(share=p, low=min(p, max(0.0, (middle - reach) / scale)), high=max(p, (middle + reach) / scale), n=n)


def place_of(example: PreferenceExample, number: int) -> Place:
    """Where an example was read; one made in Python has its number in the sequence, from 1."""
    return example.place or Place("", number)


def rows_said(places: Iterable[Place], limit: int = 8) -> str:
    """``row 3``, ``rows 3, 7, ...``; with the file where there are several."""
    found: Sequence[Place] = list(dict.fromkeys(places))
    several = len({p.file for p in found}) > 1
    shown = ", ".join(str(p) if several else str(p.row) for p in found[:limit])
    return f"row{'s' if len(found) > 1 else ''} {shown}" + (", ..." if len(found) > limit else "")
