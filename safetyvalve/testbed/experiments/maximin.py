"""Algorithm 1 by stochastic updates against its exact solution: how far the policy is from the maximin one."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from safetyvalve.testbed.generate import Setting, draw_setting
from safetyvalve.testbed.methods import Data
from safetyvalve.testbed.output import Outcome, Table, listed, new_figure
from safetyvalve.testbed.problem import chosen_baseline, sample_wins
from safetyvalve.testbed.solve import solve
from safetyvalve.testbed.stochastic import Steps, play

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DISTANCE", "run"]

DISTANCE = 1e-2
"""Total variation that is asked for."""
N = 200
"""Comparisons of a data set."""
BOX = (0.0, 4.0)
BETA = 0.5
PLAYED: tuple[Setting, ...] = ("uniform reference", "data reference", "long tail")
ETAS = {"no adversary": 0.0, "eta 1/sqrt(N)": 1 / sqrt(N), "eta 4/sqrt(N)": 4 / sqrt(N)}


def run(*, sets: int = 8, seed: int = 0, how: Steps | None = None, settings: tuple[Setting, ...] = PLAYED) -> Outcome:
    """Play ``sets`` bandits of each setting at each strength of the adversary; beta is 0.5.

    Args:
        sets: bandits of a setting, each with its data set of 200 comparisons.
        seed: of bandits, data and play.
        how: steps and samples.
        settings: of :func:`safetyvalve.testbed.draw_setting`.
    """
    how = how or Steps()
    rows: list[tuple[object, ...]] = []
    raw: list[tuple[object, ...]] = []
    for index, setting in enumerate(settings):
        problem, _ = draw_setting(setting, sets, np.random.default_rng([seed, 90 + index]))
        data = Data.of(problem, sample_wins(problem, N, np.random.default_rng([seed, 95 + index])), BOX)
        base = chosen_baseline(data.wins, data.ref)
        for name, eta in ETAS.items():
            exact = solve(data.wins, data.ref, bounds=BOX, beta=BETA, eta=eta, d0=data.d0, base=base).policy
            played = play(data, base, beta=BETA, eta=eta, how=how, seed=seed)
            start, last, mean = (distance(p, exact, data.d0) for p in (data.ref, played.last, played.policy))
            rows.append(
                (setting, name, f"{start.mean():.3f}", f"{last.max():.4f}", f"{mean.mean():.4f}", f"{mean.max():.4f}")
            )
            raw.append((setting, name, eta, *(listed(d.tolist()) for d in (start, last, mean))))
    played_by = {
        "with": [row for row in rows if row[1] != "no adversary"],
        "without": [row for row in rows if row[1] == "no adversary"],
    }
    columns = ("setting", "adversary", "reference", "last policy, worst set", "mean policy", "mean policy, worst set")
    names = ("setting", "adversary", "eta", "reference_of_each_set", "last_of_each_set", "mean_of_each_set")
    headline = [
        f"total variation to the exact policy, worst of {len(some) * sets} games {name} an adversary: "
        f"{max(float(str(row[-1])) for row in some):.4f} (at most {DISTANCE:g} wanted)"
        for name, some in played_by.items()
    ]
    tables, every = {"maximin": Table(columns, rows)}, {"maximin": Table(names, raw)}
    return Outcome("maximin", headline, tables, every, _figure(raw))


def distance(policy: Tensor, exact: Tensor, d0: Tensor) -> Tensor:
    """(set,) total variation between two policies on the prompts to serve: the mean over them of half the sum of
    absolute differences."""
    result: Tensor = (d0 * 0.5 * (policy - exact).abs().sum(-1)).sum(-1)
    return result


def _figure(raw: list[tuple[object, ...]]) -> dict[str, Figure]:
    figure, (axis,) = new_figure(7.0, 3.6, 1)
    for place, row in enumerate(raw):
        for index, (column, label) in enumerate(((3, "reference"), (4, "last policy"), (5, "mean policy"))):
            values = [float(v) for v in str(row[column]).split()]
            axis.semilogy([place + 0.2 * (index - 1)] * len(values), values, "o", color=f"C{index}", markersize=3)
            if place == 0:
                axis.plot([], [], "o", color=f"C{index}", label=label)
    axis.axhline(DISTANCE, color="black", linestyle="--", linewidth=0.8)
    axis.set_xticks(range(len(raw)), [f"{row[0]}\n{row[1]}" for row in raw], fontsize=6)
    axis.set(ylabel="total variation to the maximin policy")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return {"maximin": figure}
