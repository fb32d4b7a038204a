"""Newton's method with bounds, on many small problems at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from safetyvalve.testbed.derivatives import Objective

__all__ = ["Minimum", "minimize"]

SUFFICIENT = 1e-4
"""Share of the predicted decrease that a step must achieve (Armijo)."""


SLOW, PATIENCE = 1e-7, 25
"""A group gives up after this many steps in a row that each gained less than SLOW, relative to 1 + |value|."""

NEAR = 1e-3
"""How near a bound a coordinate may be taken to be at it."""

LONGEST = 100.0
"""No coordinate moves further than this in one step."""

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
    lower: float = -math.inf,
    upper: float = math.inf,
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
    value = start.new_full((len(start),), math.inf)
    decrement = value.clone()
    groups, active, point = torch.arange(len(start)), objective, start
    size, slow = torch.ones(len(start), dtype=start.dtype), torch.zeros(len(start))
    for _ in range(max_steps):
        step = _direction(active, point, lower, upper)
        progress = value[groups] - step.value
        value[groups], decrement[groups], best[groups] = step.value, step.predicted, point
        slow = torch.where(progress > SLOW * (1 + step.value.abs()), 0, slow + 1)
        going = (step.predicted > tolerance * (1 + step.value.abs())) & (slow < PATIENCE)
        moved, size = _search(active, point, step, size, going, lower, upper)
        going &= size > 0
        if not bool(going.any()):
            break
        point = moved
        if int(going.sum()) < len(going):
            groups, active = groups[going], active.select(going)
            point, size, slow = point[going], size[going], slow[going]
    if tolerance <= TIGHT:
        best, decrement = _polish(objective, best, lower, upper)
    # A group whose line search found no decrease is at the limit of float64: the decrement says how near.
    return Minimum(best, value, decrement, decrement <= max(1e3 * tolerance, 1e-10) * (1 + value.abs()))


def _polish(objective: Objective, point: Tensor, lower: float, upper: float) -> tuple[Tensor, Tensor]:
    """A few steps judged by the gradient: near a minimum the value no longer tells two points apart."""
    step = _direction(objective, point, lower, upper)
    for _ in range(3):
        moved = (point + step.direction).clamp(lower, upper)
        next_step = _direction(objective, moved, lower, upper)
        better = (next_step.slope.norm(dim=-1) < step.slope.norm(dim=-1))[:, None]
        point = torch.where(better, moved, point)
        step = Step(
            *(torch.where(better if a.dim() == 2 else better[:, 0], a, b) for a, b in zip(next_step, step, strict=True))
        )
    return point, step.predicted


class Step(NamedTuple):
    """Where to go from a point.

    value: (group,). slope: (group, parameter), the gradient on free coordinates, zero on frozen ones.
    direction: (group, parameter); coordinates that are about to be frozen go to their bound.
    predicted: (group,), the decrease that the quadratic model promises.
    """

    value: Tensor
    slope: Tensor
    direction: Tensor
    predicted: Tensor


def _direction(objective: Objective, point: Tensor, lower: float, upper: float) -> Step:
    """Newton direction on the coordinates that no bound holds."""
    value, gradient, hessian = objective.at(point)
    assert hessian is not None  # at() makes one unless told not to
    # Coordinates near a bound that the gradient pushes towards go there: kept in the Newton step they would zigzag.
    near = (point - (point - gradient).clamp(lower, upper)).norm(dim=-1, keepdim=True).clamp(max=NEAR)
    pushed = ((point <= lower + near) & (gradient > 0)) | ((point >= upper - near) & (gradient < 0))
    free = ~pushed
    reduced = hessian * (free[:, :, None] & free[:, None, :])
    slope = gradient * free
    scale = reduced.diagonal(dim1=-2, dim2=-1).abs().amax(-1).clamp_min(1e-30)
    # Not below what rounding of a gradient could turn into a step.
    damping = (1e-11 * scale).clamp_min(1e-13)
    eye = torch.eye(point.shape[-1], dtype=point.dtype)
    for _ in range(30):
        # A frozen coordinate has an empty row: a positive diagonal keeps the factorisation well posed.
        fill = torch.where(free, damping[:, None], scale[:, None])
        factor, failed = torch.linalg.cholesky_ex(reduced + fill[:, :, None] * eye)
        if not bool(failed.any()):
            break
        damping = torch.where(failed > 0, damping * 10, damping)
    direction = -torch.cholesky_solve(slope[:, :, None], factor)[:, :, 0] * free
    # Without curvature (a hinge, say) the step would have no length of its own.
    longest = direction.abs().amax(-1, keepdim=True)
    direction = direction * (LONGEST / longest.clamp_min(LONGEST))
    at_bound = torch.where(gradient > 0, lower, upper) - point
    to_bound = torch.where(pushed, at_bound, torch.zeros_like(point))
    predicted = -(slope * direction).sum(-1) / 2 - (gradient * to_bound).sum(-1)
    return Step(value, slope, direction + to_bound, predicted)


def _search(
    objective: Objective, point: Tensor, step: Step, last: Tensor, going: Tensor, lower: float, upper: float
) -> tuple[Tensor, Tensor]:
    """Halve each group's step until it decreases enough; the sizes found, 0 where there is none.

    A group starts from eight times its last size, at most the full step: what was too long is rarely right now.
    """
    size, best, searching = (8 * last).clamp(max=1.0), point.clone(), going.clone()
    promise = step.predicted
    # Rounding of the value must not refuse the last steps.
    slack = 4e-16 * (1 + step.value.abs())
    for _ in range(60):
        if not bool(searching.any()):
            break
        trial = (point + size[:, None] * step.direction).clamp(lower, upper)
        new = objective.at(trial, second=False).value
        good = searching & (new <= step.value - SUFFICIENT * size * promise + slack)
        best[good] = trial[good]
        searching &= ~good
        size = torch.where(searching, size / 2, size)
    return best, torch.where(searching, torch.zeros_like(size), size)
