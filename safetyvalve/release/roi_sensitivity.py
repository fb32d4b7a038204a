"""What decides the sign of the net: one input at a time, the others at their means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from safetyvalve.release.roi_assumptions import NUMBERS
from safetyvalve.release.roi_record import Bar, Flip, Payback

__all__ = ["flips", "payback", "tornado"]

Floats = NDArray[np.float64]
Net = Callable[[Mapping[str, Floats]], Floats]


def tornado(net: Net, base: Mapping[str, Floats], ranges: Mapping[str, tuple[float, float]]) -> list[Bar]:
    """Bars, the longest first.

    Args:
        net: from inputs by name.
        base: every input at its mean.
        ranges: ends of the inputs that are not known for sure.
    """
    bars = []
    for name, (low, high) in ranges.items():
        if low == high or name not in base:
            continue
        at_low, at_high = (float(net({**base, name: np.array(v)})) for v in (low, high))
        if at_low != at_high:
            bars.append(Bar(key=name, low=low, high=high, net_low=at_low, net_high=at_high))
    return sorted(bars, key=lambda b: -abs(b.net_high - b.net_low))


def flips(net: Net, base: Mapping[str, Floats], ranges: Mapping[str, tuple[float, float]]) -> list[Flip]:
    """The value of each input at which the net is 0; the net is linear in each, so it is exact.

    Inputs that move nothing are left out. The nearest to their base come first.
    """
    found = []
    at_base = float(net(base))
    for name, value in base.items():
        x = float(value)
        slope = float(net({**base, name: np.array(x + 1.0)})) - at_base
        if abs(slope) < 1e-12 * max(1.0, abs(at_base)):
            continue
        even = x - at_base / slope
        spec = NUMBERS.get(name)
        possible = spec is None or spec.low <= even <= spec.high
        low, high = ranges.get(name, (x, x))
        found.append(
            Flip(key=name, base=x, break_even=even, possible=possible, within=possible and low <= even <= high)
        )
    return sorted(found, key=lambda f: (not f.possible, _distance(f)))


def _distance(flip: Flip) -> float:
    """Relative move that the break-even value asks for."""
    if flip.break_even is None:
        return math.inf
    return abs(flip.break_even - flip.base) / (abs(flip.base) or 1.0)


def payback(cumulative: Floats) -> Payback:
    """When the money is back, over draws.

    Args:
        cumulative: [draw, month] net from the beginning to the end of each month.
    """
    months = cumulative.shape[1]
    below = cumulative < 0
    # The month after the last one that ended below 0.
    month = np.where(below.any(1), months - np.argmax(below[:, ::-1], axis=1) + 1, 1)
    shares = np.bincount(month, minlength=months + 2)[1:] / len(month)
    reached = np.cumsum(shares[:months])
    median = int(np.argmax(reached >= 0.5)) + 1 if reached[-1] >= 0.5 else None
    return Payback(median=median, by_month=[float(s) for s in shares[:months]], never=float(shares[months]))
