"""Where the guarantee stops: noisy labels, preferences that no reward explains, a class that misses the truth."""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from safetyvalve.objectives import dpo_loss
from safetyvalve.testbed.experiments.overoptimization import BOX, N
from safetyvalve.testbed.generate import draw_setting
from safetyvalve.testbed.methods import Data, Method, ensemble_min, preference_only, rpo
from safetyvalve.testbed.output import Outcome, Table, listed, new_figure
from safetyvalve.testbed.problem import Problem, bradley_terry, expected_reward, independent_pairs, sample_wins
from safetyvalve.testbed.summary import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cyclic_wins", "draw_linear", "exploitability", "run"]

FLIPS = (0.0, 0.1, 0.2, 0.3, 0.4)
CYCLES = (0.0, 0.25, 0.5, 0.75, 1.0)
RESIDUALS = (0.0, 0.5, 1.0)
SIZES = (100, 400, 1600, 6400)
BETAS = (0.2, 0.02)
COVERED = 4
CYCLE_WIN = 0.9
WEIGHTS = (-3.0, 3.0)


def run(*, sets: int = 300, seed: int = 0) -> Outcome:
    """Three experiments with eta = 1 / sqrt(N), not tuned. Settings: "data reference" and a linear class."""
    noise, noise_raw = _noise(sets, seed)
    cycle, cycle_raw = _intransitive(sets, seed)
    linear, linear_raw = _misspecified(sets, seed)
    tables = {"limits_noise": noise, "limits_intransitive": cycle, "limits_misspecified": linear}
    raw = {"limits_noise": noise_raw, "limits_intransitive": cycle_raw, "limits_misspecified": linear_raw}
    headline = [_noise_line(noise_raw), _cycle_line(cycle_raw), _linear_line(linear_raw)]
    return Outcome("limits", headline, tables, raw, _figure(noise_raw, cycle_raw, linear_raw))


def cyclic_wins(reward: Tensor, share: float, covered: int = COVERED) -> Tensor:
    """Preferences that mix Bradley-Terry with a cycle among the covered actions: 0 beats 1 beats 2 beats 3 beats 0.

    Args:
        share: weight of the cycle; its winner wins with probability 0.9, and actions two apart are equal.
    """
    win = bradley_terry(reward)
    cycle = torch.full((covered, covered), 0.5, dtype=torch.float64)
    for a in range(covered):
        cycle[a, (a + 1) % covered], cycle[(a + 1) % covered, a] = CYCLE_WIN, 1 - CYCLE_WIN
    win[..., :covered, :covered] = (1 - share) * win[..., :covered, :covered] + share * cycle
    return win


def exploitability(problem: Problem, policy: Tensor) -> Tensor:
    """How often the best answer to a policy beats it, averaged over prompts: at least one half.

    A policy that nobody beats more than half the time exists for any preferences (a mixed one, if they cycle).
    """
    beaten = torch.einsum("sxab,sxb->sxa", problem.win, policy).amax(-1)
    return (problem.d0 * beaten).sum(-1)


def draw_linear(sets: int, residual: float, rng: np.random.Generator) -> tuple[Problem, Tensor]:
    """Rewards ``features @ w + residual * noise``: 5 prompts, 8 actions, 3 weights in [-1.5, 1.5].

    4 actions make up 88% of the responses compared; the class knows the features and not the noise.
    """
    prompts, actions, parameters = 5, 8, 3
    features = torch.as_tensor(rng.normal(size=(sets, prompts, actions, parameters)))
    weights = torch.as_tensor(rng.uniform(-1.5, 1.5, (sets, parameters)))
    reward = torch.einsum("sxap,sp->sxa", features, weights)
    reward = reward + residual * torch.as_tensor(rng.normal(size=(sets, prompts, actions)))
    law = torch.full_like(reward, 0.22)
    law[..., COVERED:] = 0.03
    d0 = torch.full((sets, prompts), 1 / prompts, dtype=torch.float64)
    return Problem(d0, law, reward, independent_pairs(d0, law), bradley_terry(reward)), features


def _noise(sets: int, seed: int) -> tuple[Table, Table]:
    rows: list[tuple[object, ...]] = []
    raw: list[tuple[object, ...]] = []
    for index, flip in enumerate(FLIPS):
        rng = np.random.default_rng([seed, 60 + index])
        clean, _ = draw_setting("data reference", sets, rng)
        noisy = clean._replace(win=(1 - flip) * clean.win + flip * (1 - clean.win))
        data = Data.of(clean, sample_wins(noisy, N, rng), BOX)
        methods = _methods(N, rng)
        if flip:
            smoothed = partial(dpo_loss, label_smoothing=flip)
            methods["DPO, smoothed by the true rate"] = partial(preference_only, loss=smoothed)
            methods["RPO, smoothed by the true rate"] = partial(rpo, eta=1 / sqrt(N), label_smoothing=flip)
        for name, method in methods.items():
            values = [expected_reward(clean, one.log_policy.exp()).numpy() for one in method(data, BETAS)]
            rows.append((flip, name, *(f"{mean(v):.3f}" for v in values)))
            raw += [(flip, name, beta, *mean(v), listed(v)) for beta, v in zip(BETAS, values, strict=True)]
    columns = ("flipped", "method", *(f"true value at beta {b:g}" for b in BETAS))
    return Table(columns, rows), Table(("flipped", "method", "beta", "value", "low", "high", "value_of_each_set"), raw)


def _intransitive(sets: int, seed: int) -> tuple[Table, Table]:
    rows: list[tuple[object, ...]] = []
    raw: list[tuple[object, ...]] = []
    for index, share in enumerate(CYCLES):
        rng = np.random.default_rng([seed, 70 + index])
        problem, _ = draw_setting("data reference", sets, rng)
        problem = problem._replace(win=cyclic_wins(problem.reward, share))
        data = Data.of(problem, sample_wins(problem, 8 * N, rng), BOX)
        for name, method in _methods(8 * N, rng).items():
            policy = method(data, BETAS)[-1].log_policy.exp()
            each = exploitability(problem, policy).numpy()
            beaten = mean(each)
            against = torch.einsum("sxa,sxab,sxb->sx", policy, problem.win, problem.ref)
            wins = (problem.d0 * against).sum(-1).numpy()
            rate = mean(wins)
            rows.append((share, name, f"{beaten:.3f}", f"{rate:.3f}"))
            raw.append((share, name, *beaten, *rate, listed(each), listed(wins)))
    columns = ("share of the cycle", "method", "beaten by its best answer", "wins against the reference")
    names = (
        "cycle",
        "method",
        "beaten",
        "beaten_low",
        "beaten_high",
        "wins",
        "wins_low",
        "wins_high",
        "beaten_of_each_set",
        "wins_of_each_set",
    )
    return Table(columns, rows), Table(names, raw)


def _misspecified(sets: int, seed: int) -> tuple[Table, Table]:
    """Gap to the best policy, with beta = eta = 1 / sqrt(N) and rewards linear in three weights."""
    rows: list[tuple[object, ...]] = []
    raw: list[tuple[object, ...]] = []
    for index, (residual, n) in enumerate((r, n) for r in RESIDUALS for n in SIZES):
        rng = np.random.default_rng([seed, 80 + index])
        problem, features = draw_linear(sets, residual, rng)
        wins = sample_wins(problem, n, rng)
        best = (problem.d0 * problem.reward.amax(-1)).sum(-1).numpy()
        methods: dict[str, Method] = {"DPO": preference_only, "RPO, base chosen": partial(rpo, eta=1 / sqrt(n))}
        for name, method in methods.items():
            for class_name, bounds, known in (("linear", WEIGHTS, features), ("tabular", (-6.0, 6.0), None)):
                data = Data.of(problem, wins, bounds, known)
                policy = method(data, (1 / sqrt(n),))[0].log_policy.exp()
                gaps = best - expected_reward(problem, policy).numpy()
                gap = mean(gaps)
                rows.append((residual, n, f"{name}, {class_name} class", f"{gap:.3f}"))
                raw.append((residual, n, f"{name}, {class_name} class", *gap, listed(gaps)))
    columns = ("residual", "N", "method", "gap to the best policy")
    return Table(columns, rows), Table(("residual", "n", "method", "gap", "low", "high", "gap_of_each_set"), raw)


def _methods(n: int, rng: np.random.Generator) -> dict[str, Method]:
    return {
        "DPO": preference_only,
        "RPO, base chosen": partial(rpo, eta=1 / sqrt(n)),
        "ensemble min (10)": partial(ensemble_min, rng=rng),
    }


def _noise_line(raw: Table) -> str:
    at = {(r[0], r[1]): float(str(r[3])) for r in raw.rows if r[2] == BETAS[-1]}
    return "labels flipped with probability 0.4, value against clean labels: " + ", ".join(
        f"{m} {at[0.4, m]:.2f} against {at[0.0, m]:.2f}" for m in ("DPO", "RPO, base chosen", "ensemble min (10)")
    )


def _cycle_line(raw: Table) -> str:
    at = {(r[0], r[1]): float(str(r[2])) for r in raw.rows}
    return "preferences that cycle: the best answer to the policy wins " + ", ".join(
        f"{at[1.0, m]:.2f} against {m}" for m in ("DPO", "RPO, base chosen", "ensemble min (10)")
    )


def _linear_line(raw: Table) -> str:
    at = {(r[0], r[1], r[2]): float(str(r[3])) for r in raw.rows}
    method = "RPO, base chosen, linear class"
    return f"RPO's gap at N = {SIZES[-1]} in a linear class: " + ", ".join(
        f"{at[residual, SIZES[-1], method]:.3f} at residual {residual:g}" for residual in RESIDUALS
    )


def _figure(noise: Table, cycle: Table, linear: Table) -> dict[str, Figure]:
    figure, axes = new_figure(12, 3.8, 3)
    for name in dict.fromkeys(r[1] for r in noise.rows):
        _line(axes[0], [(r[0], *r[3:6]) for r in noise.rows if r[1] == name and r[2] == BETAS[-1]], name)
    axes[0].set(xlabel="share of labels flipped", ylabel="true value", title=f"label noise, beta {BETAS[-1]:g}")
    for name in dict.fromkeys(r[1] for r in cycle.rows):
        _line(axes[1], [(r[0], *r[2:5]) for r in cycle.rows if r[1] == name], name)
    axes[1].axhline(0.5, color="black", linewidth=0.8, linestyle="--", label="what a mixed policy can reach")
    axes[1].set(xlabel="share of the cycle", ylabel="beaten by its best answer", title="intransitive preferences")
    for index, residual in enumerate(RESIDUALS):
        for style, method in (("-", "RPO, base chosen, linear class"), (":", "RPO, base chosen, tabular class")):
            mine = [(r[1], *r[3:6]) for r in linear.rows if r[0] == residual and r[2] == method]
            _line(axes[2], mine, f"{method.split(', ')[-1]}, residual {residual:g}", style, f"C{index}")
    axes[2].set(xscale="log", yscale="log", xlabel="comparisons N", ylabel="gap of RPO", title="misspecified class")
    for axis in axes:
        axis.legend(frameon=False, fontsize=7)
    return {"limits": figure}


def _line(
    axis: object, points: list[tuple[object, ...]], label: object, style: str = "-", color: str | None = None
) -> None:
    """A curve with its interval; points are (x, value, low, high)."""
    data = np.array(points, dtype=float)
    (line,) = axis.plot(data[:, 0], data[:, 1], "o" + style, markersize=3, label=label, color=color)  # type: ignore[attr-defined]
    axis.fill_between(  # type: ignore[attr-defined]
        data[:, 0], data[:, 2], data[:, 3], color=line.get_color(), alpha=0.2, linewidth=0
    )
