"""The learning curve of a probe on the user's own data."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from safetyvalve.data import split_by_opening
from safetyvalve.data.coverage import Caution
from safetyvalve.errors import UsageError
from safetyvalve.release.plan.features import ProbeData
from safetyvalve.stats import Interval
from safetyvalve.stats.learning_curve import (
    LEAST_GROUPS,
    LEAST_SIZES,
    Extrapolation,
    Point,
    extrapolate,
    learn_linear,
    learning_curve,
    needed_comparisons,
)

__all__ = ["CurvePlan", "Probe", "TooFew", "check_curve", "plan_curve"]


class Probe(NamedTuple):
    """What learns in place of a language model."""

    kind: str
    """``embedding`` or ``hidden``."""
    source: str
    """The encoder, or the model whose hidden states are read."""
    features: int
    left_out: int
    """Examples that it could not read."""
    cautions: list[Caution]
    """What speaks against trusting the encoder on these texts, as in the coverage of serving prompts."""


class TooFew(NamedTuple):
    """Why there is no curve."""

    comparisons: int
    comparisons_needed: int
    conversations: int
    conversations_needed: int


class CurvePlan(NamedTuple):
    """Measured points, and one step beyond them that is called an extrapolation."""

    probe: Probe
    too_few: TooFew | None
    """None where there is a curve; the other fields are empty where there is none."""
    held_out: float
    draws: int
    points: tuple[Point, ...]
    gains: tuple[Interval, ...]
    """Of each doubling that was measured, from the smallest."""
    next: Extrapolation | None
    """Twice the largest point, unless fewer were asked for."""
    checked: Extrapolation | None
    """The same rule without the largest point, to be held against it; None with fewer than four points."""
    seconds: float

    @property
    def more_helps(self) -> bool | None:
        """Whether the last doubling that was measured raised the accuracy; None if its interval holds 0."""
        if not self.gains or self.gains[-1].low <= 0 <= self.gains[-1].high:
            return None
        return self.gains[-1].estimate > 0

    @property
    def reached(self) -> Interval | None:
        """Accuracy with the most data."""
        return self.points[-1].accuracy if self.points else None


def check_curve(held_out: float, draws: int, more: float) -> None:
    """Refuse what :func:`plan_curve` refuses, before anything is computed.

    Raises:
        UsageError: a value that is not accepted.
    """
    if not 0 < held_out < 1:
        raise UsageError(f"held-out is {held_out}; a share between 0 and 1 is accepted, such as 0.25.")
    if draws < 2:
        raise UsageError(f"draws is {draws}; at least 2 are accepted, since one has no spread.")
    if not 1 < more <= 2:
        raise UsageError(
            f"more is {more:g}; above 1 and at most 2 is accepted: beyond the next doubling nothing is claimed. "
            "Collect up to there and measure again."
        )


def plan_curve(
    data: ProbeData,
    kind: str,
    source: str,
    *,
    held_out: float = 0.25,
    draws: int = 8,
    more: float = 2.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CurvePlan:
    """Measure the probe on nested subsets; each draw has a split by opening turn and an order of its own.

    Args:
        data: comparisons with features.
        kind, source: of the features, for the record.
        held_out: share of examples held out in a draw.
        draws: at least 2.
        more: the extrapolation's multiple of the largest subset, above 1 and at most 2.
        seed: of splits and orders.
        progress: called with fits done and their total.

    Raises:
        UsageError: a value that is not accepted.
    """
    check_curve(held_out, draws, more)
    started = time.perf_counter()
    probe = Probe(kind, source, data.differences.shape[1], data.left_out, data.cautions)
    groups = data.conversations
    few = TooFew(len(groups), needed_comparisons(held_out), len(set(groups)), LEAST_GROUPS)
    none = CurvePlan(probe, few, held_out, draws, (), (), None, None, 0.0)
    if few.comparisons < few.comparisons_needed or few.conversations < few.conversations_needed:
        return none
    masks = np.array([_held_out(data, held_out, seed + draw) for draw in range(draws)])
    least = int((~masks).sum(1).min())
    if least < needed_comparisons(0.0):
        # A few large conversations on the held-out side; as many more as are lacking there are asked for.
        short = needed_comparisons(0.0) - least
        return none._replace(too_few=few._replace(comparisons_needed=few.comparisons + short))
    curve = learning_curve(learn_linear(data.differences, groups), groups, masks, seed=seed, progress=progress)
    checked = None
    if len(curve.points) > LEAST_SIZES:
        checked = extrapolate(curve, curve.largest, measured=len(curve.points) - 1, seed=seed)
    ahead = extrapolate(curve, round(more * curve.largest), seed=seed)
    taken = time.perf_counter() - started
    return CurvePlan(probe, None, held_out, draws, curve.points, curve.gains, ahead, checked, taken)


def _held_out(data: ProbeData, share: float, seed: int) -> list[bool]:
    """[comparison]: whether its example is on the held-out side."""
    apart = {id(e) for e in split_by_opening(data.examples, held_out=share, seed=seed).held_out}
    return [id(data.examples[i]) in apart for i in data.owner]
