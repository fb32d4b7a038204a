"""The worst-case rate: how fast the gap to a covered comparator falls as data grow, beside the theorem's bound.

One prompt, three actions. Actions 0 and 1 share the data, action 2 is the tail; rewards are 2, 2 - near and
2 - far. Which (near, far, tail share) hurts most depends on the size N of the data, so each N takes the worst of a
grid, and the grid moves with N. At one fixed problem the decay is faster: -1/2 is a worst-case rate.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from math import log, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from safetyvalve.testbed.bound import suboptimality_bound
from safetyvalve.testbed.coverage import coverage
from safetyvalve.testbed.methods import Data, Method, preference_only, rpo
from safetyvalve.testbed.output import Outcome, Table, listed, new_figure
from safetyvalve.testbed.problem import Problem, bradley_terry, expected_reward, independent_pairs, sample_wins
from safetyvalve.testbed.summary import Estimate, log_slope, mean, worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SIZES", "grid", "run"]

SIZES = (100, 316, 1000, 3162, 10000, 31623, 100000)
BOX = (0.0, 4.0)
TOP = 2.0


class Grid(NamedTuple):
    """Candidate problems at one N: (near, far, tail share), and the batch of them, ``sets`` copies of each."""

    cells: list[tuple[float, float, float]]
    problem: Problem


def grid(n: int, sets: int, *, covered: bool) -> Grid:
    """The candidates at one size of data; ``covered`` gives the tail its full share."""
    root = 1 / sqrt(n)
    near = [min(TOP, k * root) for k in (1, 3, 9)]
    far = [min(TOP, 3 * root), min(TOP, 10 * root), 0.7, TOP]
    tails = [1 / 3] if covered else [1 / n, 4 / n, root, 0.2]
    cells = list(product(near, far, tails))
    table = torch.tensor(cells, dtype=torch.float64).repeat_interleave(sets, 0)[:, None, :]
    reward = torch.cat([torch.full_like(table[..., :1], TOP), TOP - table[..., :2]], -1)
    tail = table[..., 2:]
    law = torch.cat([(1 - tail) / 2, (1 - tail) / 2, tail], -1)
    d0 = torch.ones(len(table), 1, dtype=torch.float64)
    ref = torch.full_like(law, 1 / 3)
    return Grid(cells, Problem(d0, ref, reward, independent_pairs(d0, law), bradley_terry(reward)))


def run(*, sets: int = 500, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> Outcome:
    """Worst gap over the grid at each N, with eta = beta = 1 / sqrt(N) throughout: nothing is tuned."""
    gaps: dict[str, np.ndarray] = {}
    bounds: list[tuple[object, ...]] = []
    rows: list[tuple[object, ...]] = []
    for covered in (False, True):
        found: dict[str, list[np.ndarray]] = {}
        for index, n in enumerate(sizes):
            rng = np.random.default_rng([seed, index, int(covered)])
            candidates = grid(n, sets, covered=covered)
            data = Data.of(candidates.problem, sample_wins(candidates.problem, n, rng), BOX)
            for name, method in _methods(n, candidates.problem, covered).items():
                gap = _gap(candidates.problem, data, method, n).reshape(-1, sets)
                found.setdefault(name, []).append(gap)
                rows += [
                    (name, n, *cell, float(g.mean()), float(g.std(ddof=1) / sqrt(sets)), listed(g))
                    for cell, g in zip(candidates.cells, gap, strict=True)
                ]
                if name == "RPO, base chosen":
                    bounds.append(_bound_row(n, candidates, gap, sets))
        gaps |= {name: np.stack(values) for name, values in found.items()}
    rng = np.random.default_rng([seed, 99])
    slopes = {name: log_slope(sizes, gap, worst, rng) for name, gap in gaps.items()}
    summary: list[tuple[object, ...]] = [
        (name, f"{slopes[name]}", *(f"{_at_worst(g):.4f}" for g in gap)) for name, gap in gaps.items()
    ]
    tables = {
        "rate": Table(("method", "slope", *(f"gap at N = {n}" for n in sizes)), summary),
        "rate_bound": Table(("N", "worst gap of RPO", "C there", "bound of theorem 5.3", "bound / gap"), bounds),
    }
    headline = [f"{name}: worst gap falls as N to the {slope}" for name, slope in slopes.items()]
    headline.append(f"the bound is {bounds[-1][-1]} times the measured gap at N = {sizes[-1]}: valid and loose")
    columns = ("method", "n", "near", "far", "tail_share", "mean_gap", "standard_error", "gap_of_each_set")
    return Outcome("rate", headline, tables, {"rate": Table(columns, rows)}, _figure(sizes, gaps, bounds))


def _methods(n: int, problem: Problem, covered: bool) -> dict[str, Method]:
    eta = 1 / sqrt(n)
    if covered:
        return {"DPO, full coverage": preference_only, "RPO, full coverage": partial(rpo, eta=eta)}
    tail = torch.zeros_like(problem.ref)
    tail[..., 2] = 1.0
    return {
        "RPO, base chosen": partial(rpo, eta=eta),
        "DPO": preference_only,
        "RPO, base uncovered": partial(rpo, eta=eta, base=tail),
    }


def _gap(problem: Problem, data: Data, method: Method, n: int) -> np.ndarray:
    """Suboptimality against action 0, the best covered one."""
    policy = method(data, (1 / sqrt(n),))[0].log_policy.exp()
    gap: np.ndarray = (TOP - expected_reward(problem, policy)).numpy()
    return gap


def _bound_row(n: int, candidates: Grid, gap: np.ndarray, sets: int) -> tuple[object, ...]:
    """The theorem at the worst cell; its baseline is the law of the chosen responses."""
    cell = int(gap.mean(-1).argmax())
    one = Problem(*(t[cell * sets : cell * sets + 1] for t in candidates.problem))
    c = float(coverage(one, _first(one.ref), _chosen_law(one))[0])
    bound = suboptimality_bound(n, reward_range=BOX[1], coverage=c, kl=log(3), parameters=3).bound
    measured = mean(gap[cell])
    return n, f"{measured:.4f}", f"{c:.3f}", f"{bound:.1f}", f"{bound / measured.value:.0f}"


def _at_worst(gap: np.ndarray) -> Estimate:
    """(candidate, set) to the mean of the worst candidate. Taking the worst biases it upwards a little."""
    return mean(gap[gap.mean(-1).argmax()])


def _first(ref: Tensor) -> Tensor:
    comparator = torch.zeros_like(ref)
    comparator[..., 0] = 1.0
    return comparator


def _chosen_law(problem: Problem) -> Tensor:
    """Which action wins a comparison, in expectation."""
    both = problem.pair_law + problem.pair_law.transpose(-1, -2)
    return (both * problem.win).sum(-1) / problem.pair_law.sum((-1, -2))[..., None]


def _figure(sizes: tuple[int, ...], gaps: dict[str, np.ndarray], bounds: list[tuple[object, ...]]) -> dict[str, Figure]:
    figure, (axis,) = new_figure(6.4, 4.4, 1)
    for name, gap in gaps.items():
        means, at = gap.mean(-1), gap.mean(-1).argmax(-1)
        spread = gap.std(-1, ddof=1) / sqrt(gap.shape[-1])
        index = np.arange(len(sizes))
        axis.errorbar(sizes, means[index, at], 1.96 * spread[index, at], marker="o", markersize=4, label=name)
    axis.plot(sizes, [float(str(row[3])) for row in bounds], "k:", label="bound of theorem 5.3 (RPO, chosen)")
    axis.plot(sizes, 2 / np.sqrt(sizes), "k--", linewidth=0.8, label="slope -1/2")
    axis.set(xscale="log", yscale="log", xlabel="comparisons N", ylabel="worst mean gap (reward)")
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return {"rate": figure}
