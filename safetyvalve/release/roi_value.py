"""Money from changes and prices, month by month; the same formulas for one number and for arrays of draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["COSTS", "LONG", "SHORT", "Flows", "amounts", "cumulative", "monthly_flows", "net_after"]

Floats = NDArray[np.float64]

SHORT = ("rework", "handling", "quality")
"""What comes at once."""
LONG = ("complaints", "satisfaction")
"""What shows late, and may be lost again."""
COSTS = ("harm", "one_off", "running", "evaluation_so_far", "evaluation_monthly")
"""In every net, short or long. Harm may be a gain, where tickets show less of it."""


class Flows(NamedTuple):
    """Money by name, positive where it is gained. Each value is one number or [draw]."""

    by_volume: Mapping[str, Floats]
    """A month of mean volume; moves with the volume of the month."""
    level: Mapping[str, Floats]
    """The same every month."""
    once: Mapping[str, Floats]
    """Before the first month."""


def monthly_flows(inputs: Mapping[str, Floats]) -> Flows:
    """The formulas of docs/roi.md.

    Args:
        inputs: assumptions by name, and ``saved_rework_minutes``, ``saved_handle_minutes`` (a ticket),
            ``avoided_complaints``, ``avoided_harm`` (a ticket), ``gained_satisfaction`` and ``gained_win_rate``
            (points). What is not there counts nothing.
    """

    def of(name: str) -> Floats:
        return inputs.get(name, _ZERO)

    an_hour = of("volume") / 60 * of("wage") * of("redeployed")
    evaluator = inputs.get("evaluator_wage", of("wage"))
    return Flows(
        by_volume={
            "rework": an_hour * of("saved_rework_minutes"),
            "handling": an_hour * of("saved_handle_minutes"),
            "complaints": of("volume") * of("avoided_complaints") * of("complaint_cost"),
            "harm": of("volume") * of("avoided_harm") * of("harm_cost"),
        },
        level={
            "quality": of("gained_win_rate") * of("win_rate_point_value"),
            "satisfaction": of("gained_satisfaction") * of("satisfaction_point_value"),
            "running": -of("running"),
            "evaluation_monthly": -of("evaluation_hours_monthly") * evaluator,
        },
        once={"one_off": -of("one_off"), "evaluation_so_far": -of("evaluation_hours") * evaluator},
    )


_ZERO: Floats = np.zeros(())


def _weights(profile: Floats, yearly_discount: float) -> tuple[Floats, Floats]:
    """[month] of what moves with the volume, and of what does not."""
    discount = (1 + yearly_discount) ** (-np.arange(1, len(profile) + 1) / 12)
    return profile * discount, discount


def amounts(flows: Flows, profile: Floats, yearly_discount: float) -> dict[str, Floats]:
    """Money over the horizon, by name."""
    moving, level = (w.sum() for w in _weights(profile, yearly_discount))
    return {
        **{name: value * moving for name, value in flows.by_volume.items()},
        **{name: value * level for name, value in flows.level.items()},
        **flows.once,
    }


def net_after(flows: Flows, profile: Floats, yearly_discount: float, names: tuple[str, ...]) -> Floats:
    """Sum of the named amounts over the horizon."""
    found = amounts(flows, profile, yearly_discount)
    total: Floats = sum((found[n] for n in names), _ZERO)
    return total


def cumulative(flows: Flows, profile: Floats, yearly_discount: float, names: tuple[str, ...]) -> Floats:
    """[..., month] sum of the named amounts from the beginning to the end of each month."""
    moving, level = (np.cumsum(w) for w in _weights(profile, yearly_discount))

    def total(of: Mapping[str, Floats]) -> Floats:
        found: Floats = np.asarray(sum((of[n] for n in names if n in of), _ZERO))[..., None]
        return found

    return total(flows.by_volume) * moving + total(flows.level) * level + total(flows.once)
