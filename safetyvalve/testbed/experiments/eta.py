"""eta: how strong the adversary should be, what too much of it does, and what the reductions do to it."""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safetyvalve.objectives import Reduction
from safetyvalve.testbed.experiments.overoptimization import BOX, N, draw, measure
from safetyvalve.testbed.generate import Setting, draw_setting
from safetyvalve.testbed.methods import Data, rpo
from safetyvalve.testbed.output import Outcome, Table, listed, new_figure
from safetyvalve.testbed.problem import Problem, chosen_baseline, expected_reward, independent_pairs, sample_wins
from safetyvalve.testbed.solve import solve
from safetyvalve.testbed.summary import Estimate, log_slope, mean, peak

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BETA", "best_etas", "run"]

BETA = 0.02
GRID = tuple(float(f"{e:.3g}") for e in np.geomspace(0.001, 10, 17))
SIZES = (50, 100, 200, 400, 800, 1600, 3200)
SWEEP: tuple[Setting, ...] = ("data reference", "long tail")
LARGE = (10.0, 20.0, 40.0, 80.0)
REDUCTIONS: tuple[Reduction, ...] = ("sum", "sequence_mean", "batch_token_mean")
REDUCTION_ETAS = (0.5, 5.0, 50.0)
"""For the comparison of reductions, in units of 1/sqrt(N) a mean-length response."""


def run(*, sets: int = 300, seed: int = 0, sizes: tuple[int, ...] = SIZES, grid: tuple[float, ...] = GRID) -> Outcome:
    """The sweep, the best eta as N grows, the collapse to imitation, and the reductions."""
    sweep, sweep_raw = _sweep(sets, seed, grid)
    growths = [_growth(sets, seed, sizes, grid, rare) for rare in (False, True)]
    collapse, collapse_table, collapse_slope = _collapse(sets, seed)
    lengths, lengths_line = _reductions(sets, seed)
    growth_rows = [row for growth in growths for row in growth.rows]
    tables = {
        "eta": sweep,
        "eta_growth": Table(("coverage of the tail", "N", "best eta", "best eta * sqrt(N)"), growth_rows),
        "eta_collapse": collapse_table,
        "eta_reductions": lengths,
    }
    headline = [
        *(f"{g.name}: the best eta falls as N to the {g.slope}, at beta {BETA:g} (1/sqrt(N) is -0.5)" for g in growths),
        f"distance to the baseline at large eta falls as eta to the {collapse_slope}: imitation",
        lengths_line,
    ]
    growth_raw = Table(
        ("coverage", "n", "eta", "value", "low", "high", "value_of_each_set"), [r for g in growths for r in g.raw]
    )
    raw = {"eta": sweep_raw, "eta_growth": growth_raw}
    return Outcome("eta", headline, tables, raw, _figure(sweep_raw, growths, collapse))


def best_etas(values: NDArray[np.float64], grid: tuple[float, ...] = GRID) -> NDArray[np.float64]:
    """(size, eta, set) true values to the best eta of each size; an end of the grid is returned as it stands."""
    log_grid = np.log(grid)
    best = np.array([np.exp(peak(log_grid, curve)) for curve in values.mean(-1)])
    # exp(log(x)) is off by rounding, and the ends must be recognised.
    return np.where(np.isclose(best, grid[0]), grid[0], np.where(np.isclose(best, grid[-1]), grid[-1], best))


def _values(problem: Problem, data: Data, etas: tuple[float, ...]) -> NDArray[np.float64]:
    """(eta, set) true value of RPO with the chosen responses as baseline."""
    return np.stack([measure(problem, data, partial(rpo, eta=eta), (0.1, BETA)).value[-1] for eta in etas])


def _sweep(sets: int, seed: int, grid: tuple[float, ...]) -> tuple[Table, Table]:
    rows: list[tuple[object, ...]] = []
    raw: list[tuple[object, ...]] = []
    for index, name in enumerate(SWEEP):
        drawn = draw(name, sets, np.random.default_rng([seed, 10 + index]))
        for eta, value in zip((0.0, *grid), _values(drawn.problem, drawn.data, (0.0, *grid)), strict=True):
            estimate = mean(value)
            rows.append((name, eta, f"{eta * sqrt(N):.2f}", f"{estimate:.3f}"))
            raw.append((name, eta, *estimate, listed(value)))
    return (
        Table(("setting", "eta", "eta * sqrt(N)", f"true value at beta {BETA:g}"), rows),
        Table(("setting", "eta", "value", "low", "high", "value_of_each_set"), raw),
    )


class Growth(NamedTuple):
    """The best eta at each size of data. ``best``, ``low``, ``high``: (size,)."""

    name: str
    sizes: tuple[int, ...]
    slope: Estimate
    best: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rows: list[tuple[object, ...]]
    raw: list[tuple[object, ...]]


def _growth(sets: int, seed: int, sizes: tuple[int, ...], grid: tuple[float, ...], rare: bool) -> Growth:
    """``rare`` keeps the number of comparisons of a tail action the same at every N; otherwise its share."""
    name = "same count at every N" if rare else "same share at every N"
    values: list[NDArray[np.float64]] = []
    raw: list[tuple[object, ...]] = []
    for index, n in enumerate(sizes):
        rng = np.random.default_rng([seed, 20 + index, int(rare)])
        problem, _ = draw_setting("data reference", sets, rng)
        if rare:
            problem = problem._replace(pair_law=_rarer(problem, sizes[0] / n))
        data = Data.of(problem, sample_wins(problem, n, rng), BOX)
        values.append(_values(problem, data, grid))
        raw += [(name, n, eta, *mean(v), listed(v)) for eta, v in zip(grid, values[-1], strict=True)]
    stacked = np.stack(values)
    best = best_etas(stacked, grid)
    rng = np.random.default_rng([seed, 30])
    slope = log_slope(sizes, stacked, partial(best_etas, grid=grid), rng)
    resampled = np.stack([best_etas(stacked[..., rng.integers(0, sets, sets)], grid) for _ in range(400)])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    rows: list[tuple[object, ...]] = [
        (
            name,
            n,
            f"{Estimate(best[i], low[i], high[i])}" + (" (end of the grid)" if best[i] in (grid[0], grid[-1]) else ""),
            f"{Estimate(*(np.array((best[i], low[i], high[i])) * sqrt(n))):.2f}",
        )
        for i, n in enumerate(sizes)
    ]
    return Growth(name, sizes, slope, best, low, high, rows, raw)


def _rarer(problem: Problem, share: float) -> Tensor:
    """The pair law when the tail answers are ``share`` times as frequent; the reference stays as it was."""
    law = problem.ref.clone()
    law[..., 4:] *= share
    return independent_pairs(problem.d0, law / law.sum(-1, keepdim=True))


def _collapse(sets: int, seed: int) -> tuple[NDArray[np.float64], Table, Estimate]:
    """Total variation to the baseline at large eta."""
    drawn = draw("data reference", sets, np.random.default_rng([seed, 40]))
    base = chosen_baseline(drawn.data.wins, drawn.data.ref)
    distance = []
    for eta in LARGE:
        policy = rpo(drawn.data, (0.1, BETA), eta=eta)[-1].log_policy.exp()
        distance.append(((policy - base).abs().sum(-1) / 2).mean(-1).numpy())
    stacked = np.stack(distance)
    slope = log_slope(LARGE, stacked[:, None, :], lambda d: d.mean((-2, -1)), np.random.default_rng([seed, 41]))
    rows: list[tuple[object, ...]] = [(eta, f"{mean(tv):.4f}") for eta, tv in zip(LARGE, stacked, strict=True)]
    return stacked.mean(-1), Table(("eta", "total variation to the baseline"), rows), slope


def _reductions(sets: int, seed: int) -> tuple[Table, str]:
    """The three reductions of the shipped SFT term when responses have 5 to 80 tokens.

    eta is scaled by the mean length under the two means, so that a response of mean length weighs the same.
    """
    rng = np.random.default_rng([seed, 50])
    drawn = draw("data reference", sets, rng)
    data, problem = drawn.data, drawn.problem
    lengths = torch.as_tensor(np.exp(rng.uniform(np.log(5), np.log(80), tuple(data.ref.shape))))
    base = chosen_baseline(data.wins, data.ref)
    mean_length = float((base * lengths).sum(-1).mean())
    rows: list[tuple[object, ...]] = [
        ("baseline itself", "-", f"{mean(_length(problem.d0, base, lengths)):.1f}", "-", "-"),
    ]
    for reduction in REDUCTIONS:
        for factor in REDUCTION_ETAS:
            eta = factor / sqrt(N) * (1.0 if reduction == "sum" else mean_length)
            start = None
            for beta in (0.1, BETA):
                found = solve(
                    data.wins,
                    data.ref,
                    bounds=BOX,
                    start=start,
                    beta=beta,
                    eta=eta,
                    d0=problem.d0,
                    base=base,
                    lengths=lengths,
                    reduction=reduction,
                    mean_length=mean_length,
                )
                start = found.parameters
            distance = ((found.policy - base).abs().sum(-1) / 2).mean(-1).numpy()
            rows.append(
                (
                    reduction,
                    f"{factor:g}",
                    f"{mean(_length(problem.d0, found.policy, lengths)):.1f}",
                    f"{mean(distance):.3f}",
                    f"{mean(expected_reward(problem, found.policy).numpy()):.3f}",
                )
            )
    columns = ("reduction", "eta * sqrt(N)", "mean length (tokens)", "distance to the baseline", "true value")
    line = f"mean length of the baseline {rows[0][2]} tokens; at eta {REDUCTION_ETAS[-1]:g}/sqrt(N): " + ", ".join(
        f"{row[0]} {row[2]}" for row in rows if row[1] == f"{REDUCTION_ETAS[-1]:g}"
    )
    return Table(columns, rows), line


def _length(d0: Tensor, policy: Tensor, lengths: Tensor) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (d0 * (policy * lengths).sum(-1)).sum(-1).numpy()
    return result


def _figure(sweep: Table, growths: list[Growth], collapse: NDArray[np.float64]) -> dict[str, Figure]:
    figure, axes = new_figure(11, 4.2, 3)
    for name in SWEEP:
        mine = np.array([row[1:5] for row in sweep.rows if row[0] == name and float(str(row[1])) > 0], dtype=float)
        zero = next(row for row in sweep.rows if row[0] == name and row[1] == 0.0)
        (line,) = axes[0].plot(mine[:, 0], mine[:, 1], "o-", markersize=3, label=f"{name}, N = {N}")
        axes[0].fill_between(mine[:, 0], mine[:, 2], mine[:, 3], color=line.get_color(), alpha=0.2, linewidth=0)
        axes[0].axhline(float(str(zero[2])), color=line.get_color(), linestyle=":", label=f"{name}, eta = 0 (DPO)")
    axes[0].axvline(1 / sqrt(N), color="black", linewidth=0.8, linestyle="--", label="1/sqrt(N)")
    axes[0].set(xscale="log", xlabel="eta", ylabel="true value", title=f"beta {BETA:g}")
    for growth in growths:
        error = np.maximum(np.stack([growth.best - growth.low, growth.high - growth.best]), 0)
        axes[1].errorbar(growth.sizes, growth.best, error, marker="o", markersize=4, label=f"tail: {growth.name}")
    axes[1].plot(growths[0].sizes, 1 / np.sqrt(growths[0].sizes), "k--", linewidth=0.8, label="1/sqrt(N)")
    axes[1].set(xscale="log", yscale="log", xlabel="comparisons N", ylabel="eta", title="best eta")
    axes[2].plot(LARGE, collapse, "o-", label="measured")
    axes[2].plot(LARGE, collapse[0] * LARGE[0] / np.array(LARGE), "k--", linewidth=0.8, label="slope -1")
    axes[2].set(xscale="log", yscale="log", xlabel="eta", ylabel="distance to the baseline", title="imitation")
    for axis in axes:
        axis.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)
    axes[2].set_xticks(LARGE, [f"{eta:g}" for eta in LARGE])
    axes[2].minorticks_off()
    return {"eta": figure}
