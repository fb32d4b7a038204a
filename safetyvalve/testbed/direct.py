"""The maximin objective solved as it is written, without the RPO form, and with a certificate.

    max over pi, min over r in R:  eta E_{d0}[ (pi - base) . r - beta KL(pi || ref) ] + L_D(r)

For a given policy the inner minimum is a convex program in r. Replacing each Bradley-Terry term by its conjugate,
``softplus(-m) = max over p in [0, 1] of H(p) - p m``, makes it linear in r, so that its minimum over a box is
explicit, and the whole becomes one concave program over policies and the soft labels p:

    max over (pi, p):  sum_i w_i H(p_i) - eta beta E_{d0} KL(pi || ref) - sum_j support of the box at -c_j
    c = features^T ( eta d0 (pi - base) - sum_i w_i p_i (e_winner - e_loser) )

Any feasible (pi, p) is worth at most the maximin, and any r's worst case is at least the minimax: the two bracket
the truth whatever the solvers did. Nothing here knows that the best policy is proportional to ref exp(r / beta).

Solved by a log-barrier with Newton steps (Boyd and Vandenberghe, Convex Optimization, chapters 10 and 11).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.errors import UsageError

__all__ = ["DirectProblem", "DirectSolution", "lower_bound", "solve_maximin"]

Array = NDArray[np.float64]
SMALLEST = 1e-250
"""Probabilities below this are cut: at beta 1e-3 the optimum holds some of e^-50000."""


class DirectProblem(NamedTuple):
    """One maximin problem, prompts and actions flattened into cells.

    cost: (cell,) eta times the serving weight d0 of the cell's prompt.
    ref, base: (cell,).
    prompt: (cell,) which prompt a cell belongs to, from 0.
    difference: (row, cell) winner minus loser of each distinct comparison.
    weight: (row,) share of the data.
    features: (cell, parameter); the identity is the tabular class.
    beta: strength of the KL term.
    lower, upper: the box on each parameter; infinite ends leave the reward unconstrained.
    """

    cost: Array
    ref: Array
    base: Array
    prompt: NDArray[np.int64]
    difference: Array
    weight: Array
    features: Array
    beta: float
    lower: float
    upper: float


class DirectSolution(NamedTuple):
    """The policy, the soft labels, and what they are worth at least.

    policy: (cell,).
    labels: (row,).
    value: a lower bound of the maximin that holds whether or not the solver converged; minus infinity for an
        unconstrained reward until :func:`lower_bound` is given a box.
    """

    policy: Array
    labels: Array
    value: float


def solve_maximin(problem: DirectProblem, *, smallest_barrier: float = 1e-12) -> DirectSolution:
    """Solve one problem to a gap of about ``smallest_barrier`` a constraint.

    Raises:
        UsageError: the box is empty or half infinite.
    """
    boxed = np.isfinite(problem.lower) and np.isfinite(problem.upper)
    if not problem.lower < problem.upper or np.isfinite(problem.lower) != np.isfinite(problem.upper):
        raise UsageError(
            f"the box on the reward is [{problem.lower:g}, {problem.upper:g}]; the program is infeasible. "
            "The lower end must be below the upper one, and both finite or both infinite."
        )
    cells, rows = len(problem.ref), len(problem.weight)
    linear, constant = _balance(problem)
    y = np.concatenate([0.9 * problem.ref + 0.1 / _sizes(problem), np.full(rows, 0.5)])
    y[:cells] /= _totals(problem, y[:cells])
    if boxed:
        y = np.concatenate([y, np.maximum(-(linear @ y + constant), 0) + 1.0])
    equalities = np.zeros((problem.prompt.max() + 1, len(y)))
    equalities[problem.prompt, np.arange(cells)] = 1.0
    targets = np.ones(len(equalities))
    if not boxed:
        # A prompt's balances sum to zero by themselves: one of these is redundant, hence the least squares below.
        equalities, targets = np.vstack([equalities, linear]), np.concatenate([targets, -constant])
    barrier = 1e-2
    while barrier >= smallest_barrier:
        y = _centre(problem, y, barrier, linear, constant, equalities, targets, boxed)
        barrier *= 0.2
    policy = y[:cells] / _totals(problem, y[:cells])
    labels = y[cells : cells + rows]
    return DirectSolution(policy, labels, lower_bound(problem, policy, labels))


def lower_bound(problem: DirectProblem, policy: Array, labels: Array, box: tuple[float, float] | None = None) -> float:
    """What the maximin is worth at least, from any policy and labels: the certificate.

    Args:
        box: another box on the parameters. For an unconstrained problem give one that holds the minimiser of the
            RPO form in its interior: by convexity it is then the minimiser over everything.
    """
    lower, upper = (problem.lower, problem.upper) if box is None else box
    linear, constant = _balance(problem)
    balance = linear @ np.concatenate([policy, labels]) + constant
    rest = np.zeros_like(balance)
    below, above = balance < 0, balance > 0
    rest[above], rest[below] = lower * balance[above], upper * balance[below]
    return float(
        problem.weight @ _entropy(labels) - problem.beta * problem.cost @ _kl_terms(policy, problem.ref) + rest.sum()
    )


def _balance(problem: DirectProblem) -> tuple[Array, Array]:
    """``c = linear @ (policy, labels) + constant``."""
    of_policy = problem.features.T * problem.cost
    of_labels = -(problem.weight[:, None] * (problem.difference @ problem.features)).T
    return np.hstack([of_policy, of_labels]), -of_policy @ problem.base


def _centre(
    problem: DirectProblem,
    y: Array,
    barrier: float,
    linear: Array,
    constant: Array,
    equalities: Array,
    targets: Array,
    boxed: bool,
) -> Array:
    """Newton steps to the centre of one barrier, staying strictly inside."""
    for _ in range(60):
        gradient, hessian = _derivatives(problem, y, barrier, linear, constant, boxed)
        scale = 1 / np.sqrt(np.diag(hessian))
        scaled = equalities * scale
        # Eliminate the equalities by a projection: the scaling keeps probabilities of 1e-200 harmless.
        factor = np.linalg.cholesky(hessian * scale[:, None] * scale + 1e-15 * np.eye(len(y)))
        half = np.linalg.solve(factor, scaled.T)
        toward = np.linalg.solve(factor, gradient * scale)
        miss = targets - equalities @ y
        multipliers = np.linalg.lstsq(half.T @ half, -(half.T @ toward) - miss, rcond=1e-14)[0]
        move = -np.linalg.solve(factor.T, toward + half @ multipliers) * scale
        size = _largest_step(problem, y, move, linear, constant, boxed)
        y = y + size * move
        decrement = float((move / scale) @ (hessian * scale[:, None] * scale) @ (move / scale))
        if decrement < 1e-4 * barrier and size == 1.0:
            break
    return y


def _derivatives(
    problem: DirectProblem, y: Array, barrier: float, linear: Array, constant: Array, boxed: bool
) -> tuple[Array, Array]:
    """Gradient and Hessian of minus the objective plus the barrier."""
    cells, rows = len(problem.ref), len(problem.weight)
    policy, labels = y[:cells], y[cells : cells + rows]
    strength = problem.beta * problem.cost
    gradient = np.concatenate(
        [
            strength * (np.log(policy / problem.ref) + 1),
            problem.weight * (np.log(labels) - np.log1p(-labels)),
        ]
    )
    diagonal = np.concatenate(
        [
            strength / policy + barrier / policy**2,
            problem.weight / (labels * (1 - labels)) + barrier / labels**2 + barrier / (1 - labels) ** 2,
        ]
    )
    if not boxed:
        return gradient, np.diag(diagonal)
    slack = y[cells + rows :]
    other = linear @ y[: cells + rows] + constant + slack
    pull, curve = -problem.lower - barrier / other, barrier / other**2
    gradient = np.concatenate([gradient + linear.T @ pull, pull + problem.upper - barrier / slack])
    cross = linear.T * curve
    hessian = np.block(
        [
            [np.diag(diagonal) + cross @ linear, cross],
            [cross.T, np.diag(curve + barrier / slack**2)],
        ]
    )
    return gradient, hessian


def _largest_step(problem: DirectProblem, y: Array, move: Array, linear: Array, constant: Array, boxed: bool) -> float:
    """The step that keeps every probability and slack above a hundredth of its value, at most 1."""
    cells, rows = len(problem.ref), len(problem.weight)
    inner, inner_move = y[: cells + rows], move[: cells + rows]
    positive = [inner, 1 - inner[cells:]]
    change = [inner_move, -inner_move[cells:]]
    if boxed:
        slack, slack_move = y[cells + rows :], move[cells + rows :]
        positive += [slack, linear @ inner + constant + slack]
        change += [slack_move, linear @ inner_move + slack_move]
    value, step = np.concatenate(positive), np.concatenate(change)
    shrinking = step < 0
    if not shrinking.any():
        return 1.0
    return float(min(1.0, 0.99 * np.min(-value[shrinking] / step[shrinking])))


def _entropy(p: Array) -> Array:
    p = np.clip(p, SMALLEST, 1 - 1e-16)
    result: Array = -p * np.log(p) - (1 - p) * np.log1p(-p)
    return result


def _kl_terms(policy: Array, ref: Array) -> Array:
    policy = np.maximum(policy, SMALLEST)
    result: Array = policy * np.log(policy / ref)
    return result


def _totals(problem: DirectProblem, policy: Array) -> Array:
    totals = np.asarray(np.bincount(problem.prompt, weights=policy), dtype=np.float64)
    return totals[problem.prompt]


def _sizes(problem: DirectProblem) -> Array:
    result: Array = np.bincount(problem.prompt)[problem.prompt].astype(np.float64)
    return result
