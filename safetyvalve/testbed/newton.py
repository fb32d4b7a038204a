"""Newton's method with bounds, on many small problems at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from safetyvalve.testbed.derivatives import Objective

__all__ = ["Minimum", "minimize"]

SUFFICIENT = 1e-4
"""Share of the predicted decrease that a step must achieve (Armijo)."""


TIGHT = 1e-14
"""Tolerances up to this are below what the value can show; the gradient has the last word then."""


class Minimum(NamedTuple):
    """The points reached, and how sure we are of them.

    parameters: (group, parameter).
    value: (group,).
    decrement: (group,), the decrease that one more Newton step predicts; zero at a minimum.
    converged: (group,), whether the decrement is below the tolerance.
    """

    parameters: Float[Tensor, "group parameter"]
    value: Float[Tensor, "group"]
    decrement: Float[Tensor, "group"]
    converged: Bool[Tensor, "group"]


def minimize(
    objective: Objective,
    start: Float[Tensor, "group parameter"],
    *,
    lower: float | None,
    upper: float | None,
    tolerance: float = 1e-11,
    max_steps: int = 300,
) -> Minimum:
    """Minimise each group of an objective within bounds.

    Two-metric projection (Bertsekas, SIAM J. Control Optim. 20(2), 1982): coordinates held at a bound by the
    gradient are frozen, the rest take a Newton step, cut back to the bounds. Directions in which the objective
    is flat are left where they started, which is how a tie between minimisers is broken.

    Args:
        tolerance: stop a group once its predicted decrease is below this, relative to 1 + |value|.
    """
    best = start.clone()
    value = start.new_full((len(start),), torch.inf)
    decrement = value.clone()
    open_groups = torch.arange(len(start))
    active = objective
    for step in range(max_steps):
        point = best[open_groups]
        terms = active.at(point)
        assert terms.hessian is not None  # at() was asked for it
        direction, predicted, free = _direction(terms.gradient, terms.hessian, point, lower, upper)
        value[open_groups], decrement[open_groups] = terms.value, predicted
        going = predicted > tolerance * (1 + terms.value.abs())
        if not bool(going.any()) or step == max_steps - 1:
            break
        moved, stuck = _search(active, point, terms.value, terms.gradient, direction, free, lower, upper, going)
        best[open_groups] = moved
        going = going & ~stuck
        if not bool(going.any()):
            break
        if int(going.sum()) < 0.8 * len(going):
            open_groups, active = open_groups[going], active.select(going)
    if tolerance <= TIGHT:
        best, decrement = _polish(objective, best, decrement, lower, upper)
    # A group whose line search found no decrease is at the limit of float64: the decrement says how near.
    return Minimum(best, value, decrement, decrement <= max(1e3 * tolerance, 1e-10) * (1 + value.abs()))


def _polish(
    objective: Objective, point: Tensor, decrement: Tensor, lower: float | None, upper: float | None
) -> tuple[Tensor, Tensor]:
    """A few steps judged by the gradient: near a minimum the value no longer tells two points apart."""
    size = None
    for _ in range(4):
        terms = objective.at(point)
        assert terms.hessian is not None  # at() was asked for it
        direction, predicted, free = _direction(terms.gradient, terms.hessian, point, lower, upper)
        now = (terms.gradient * free).norm(dim=-1)
        if size is not None:
            worse = now >= size
            point, now = torch.where(worse[:, None], kept, point), torch.where(worse, size, now)
            direction, predicted = direction * ~worse[:, None], torch.where(worse, decrement, predicted)
        kept, size, decrement = point, now, predicted
        point = (point + direction).clamp(lower, upper) if lower is not None else point + direction
    return kept, decrement


def _direction(
    gradient: Tensor, hessian: Tensor, point: Tensor, lower: float | None, upper: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton direction on the free coordinates, its predicted decrease, and which are free."""
    held = torch.zeros_like(point, dtype=torch.bool)
    if lower is not None:
        held |= (point <= lower) & (gradient > 0)
    if upper is not None:
        held |= (point >= upper) & (gradient < 0)
    free = ~held
    reduced = hessian * (free[:, :, None] & free[:, None, :])
    slope = gradient * free
    scale = reduced.diagonal(dim1=-2, dim2=-1).abs().amax(-1).clamp_min(1e-300)
    damping = 1e-11 * scale
    eye = torch.eye(point.shape[-1], dtype=point.dtype)
    for _ in range(30):
        # A frozen coordinate has an empty row: one on its diagonal keeps the factorisation well posed.
        fill = torch.where(free, damping[:, None], scale[:, None])
        factor, failed = torch.linalg.cholesky_ex(reduced + fill[:, :, None] * eye)
        if not bool(failed.any()):
            break
        damping = torch.where(failed > 0, damping * 10, damping)
    direction = -torch.cholesky_solve(slope[:, :, None], factor)[:, :, 0] * free
    return direction, -(slope * direction).sum(-1) / 2, free


def _search(
    objective: Objective,
    point: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
    free: Tensor,
    lower: float | None,
    upper: float | None,
    going: Tensor,
) -> tuple[Tensor, Tensor]:
    """Halve each group's step until it decreases enough; groups that never do stay where they are."""
    size = torch.ones_like(value)
    best, open_ = point.clone(), going.clone()
    promise = -(gradient * direction * free).sum(-1)
    for _ in range(60):
        trial = (
            (point + size[:, None] * direction).clamp(lower, upper)
            if lower is not None or upper is not None
            else point + size[:, None] * direction
        )
        new = objective.at(trial, second=False).value
        # Rounding of the value must not refuse the last steps.
        slack = 4e-16 * (1 + value.abs())
        good = open_ & (new <= value - SUFFICIENT * size * promise + slack)
        best[good] = trial[good]
        open_ &= ~good
        if not bool(open_.any()):
            break
        size = torch.where(open_, size / 2, size)
    return best, open_
