"""Overoptimization: the true value of each method's policy as its leash (beta) loosens, under partial coverage."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from safetyvalve.testbed.derivatives import PairLoss
from safetyvalve.testbed.generate import SETTINGS, Setting, draw_setting
from safetyvalve.testbed.methods import Data, Method, preference_only, rpo, standard_methods
from safetyvalve.testbed.output import Outcome, Table, new_figure
from safetyvalve.testbed.problem import Problem, expected_kl, expected_reward, sample_wins
from safetyvalve.testbed.summary import Estimate, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BETAS", "BOX", "Curve", "choose_eta", "measure", "run"]

BETAS = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
BOX = (0.0, 4.0)
N = 200
ETA_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SMALL = 0.02
RPO, DPO = "RPO, base chosen", "DPO"
RPO_SMALL = "RPO, base chosen, eta for small beta"


class Curve(NamedTuple):
    """One method on one setting.

    value: (beta, set) true value. kl: (beta, set) in nats. converged: (beta, set).
    """

    value: np.ndarray
    kl: np.ndarray
    converged: np.ndarray


def measure(problem: Problem, data: Data, method: Method, betas: tuple[float, ...] = BETAS) -> Curve:
    """True value and KL of a method's policies at each beta."""
    learnt = method(data, betas)
    return Curve(
        np.stack([expected_reward(problem, one.log_policy.exp()).numpy() for one in learnt]),
        np.stack([expected_kl(problem.d0, one.log_policy, problem.ref).numpy() for one in learnt]),
        np.stack([one.converged.numpy() for one in learnt]),
    )


def choose_eta(problem: Problem, data: Data, uncovered: Tensor) -> dict[str, float]:
    """For each RPO baseline the eta whose mean value, at its best beta, is highest on these data sets.

    For the chosen responses also by a second rule, highest at beta 0.02: what to use when beta is small anyway.
    """
    bases: dict[str, Tensor | None] = {"chosen": None, "ref": problem.ref, "uncovered": uncovered}
    etas = [float(factor / np.sqrt(N)) for factor in ETA_FACTORS]
    best: dict[str, float] = {}
    for name, base in bases.items():
        means = np.stack([measure(problem, data, partial(rpo, eta=eta, base=base)).value.mean(-1) for eta in etas])
        best[name] = etas[int(means.max(-1).argmax())]
        if name == "chosen":
            best["chosen, small beta"] = etas[int(means[:, BETAS.index(SMALL)].argmax())]
    return best


class Draw(NamedTuple):
    """A batch of bandits, one data set each, and the baseline that the data do not cover."""

    problem: Problem
    data: Data
    uncovered: Tensor


def draw(name: Setting, sets: int, rng: np.random.Generator) -> Draw:
    """Bandits of a setting and their data."""
    problem, uncovered = draw_setting(name, sets, rng)
    return Draw(problem, Data.of(problem, sample_wins(problem, N, rng), BOX), uncovered)


def run(
    *,
    sets: int = 600,
    seed: int = 0,
    settings: tuple[Setting, ...] = SETTINGS,
    objective: PairLoss | None = None,
    objective_name: str = "custom",
) -> Outcome:
    """Every method on ``sets`` data sets a setting; eta and the best beta come from sets // 3 others."""
    rows: list[tuple[object, ...]] = []
    summary: list[tuple[object, ...]] = []
    paired: list[tuple[object, ...]] = []
    etas: list[tuple[object, ...]] = []
    everything: dict[str, dict[str, Curve]] = {}
    headline = []
    for index, name in enumerate(settings):
        rng = np.random.default_rng([seed, index])
        tuning, test = draw(name, max(2, sets // 3), rng), draw(name, sets, rng)
        eta = choose_eta(tuning.problem, tuning.data, tuning.uncovered)
        etas += [(name, base, value, value * np.sqrt(N)) for base, value in eta.items()]
        tuned = _curves(tuning, eta, rng, objective, objective_name)
        best_beta = {method: int(curve.value.mean(-1).argmax()) for method, curve in tuned.items()}
        curves = _curves(test, eta, rng, objective, objective_name)
        everything[name] = curves
        best = mean(test.problem.d0.numpy().mean() * test.problem.reward.amax(-1).sum(-1).numpy())
        summary.append((name, "best possible", "-", f"{best:.3f}", f"{best:.3f}", "-", "-"))
        summary += [_summary_row(name, method, curve, best_beta[method]) for method, curve in curves.items()]
        paired += _paired_rows(name, curves, best_beta)
        rows += _raw_rows(name, curves)
        headline.append(_finding(name, curves, best_beta))
    tables = {
        "overoptimization": Table(
            (
                "setting",
                "method",
                "best beta",
                "value at best beta",
                f"value at beta {SMALL:g}",
                f"KL at beta {SMALL:g}",
                "not converged",
            ),
            summary,
        ),
        "overoptimization_paired": Table(
            ("setting", "difference", "each at its best beta", f"both at beta {SMALL:g}", "both at beta 0.01"), paired
        ),
        "overoptimization_eta": Table(("setting", "baseline", "chosen eta", "eta * sqrt(N)"), etas),
    }
    raw = {"overoptimization": Table(("setting", "method", "beta", "set", "value", "kl", "converged"), rows)}
    return Outcome("overoptimization", headline, tables, raw, _figures(everything))


def _curves(
    drawn: Draw, eta: dict[str, float], rng: np.random.Generator, objective: PairLoss | None, name: str
) -> dict[str, Curve]:
    methods = standard_methods(eta=eta, uncovered=drawn.uncovered, ref=drawn.problem.ref, max_reward=BOX[1], rng=rng)
    if objective is not None:
        methods[name] = partial(preference_only, loss=objective)
    return {method: measure(drawn.problem, drawn.data, function) for method, function in methods.items()}


def _summary_row(setting: str, method: str, curve: Curve, best: int) -> tuple[object, ...]:
    small = BETAS.index(SMALL)
    return (
        setting,
        method,
        f"{BETAS[best]:g}",
        f"{mean(curve.value[best]):.3f}",
        f"{mean(curve.value[small]):.3f}",
        f"{mean(curve.kl[small]):.2f}",
        int((~curve.converged).sum()),
    )


def _paired_rows(setting: str, curves: dict[str, Curve], best: dict[str, int]) -> list[tuple[object, ...]]:
    """RPO less each other method, on the same data sets; RPO with eta for a small beta less the rivals too."""
    rows: list[tuple[object, ...]] = []
    for lead in (RPO, RPO_SMALL):
        for method, curve in curves.items():
            if method in (RPO, RPO_SMALL) or (lead == RPO_SMALL and method.startswith("RPO")):
                continue
            at_best = mean(curves[lead].value[best[lead]] - curve.value[best[method]])
            rest = [mean(curves[lead].value[b] - curve.value[b]) for b in (BETAS.index(SMALL), len(BETAS) - 1)]
            rows.append((setting, f"{lead} - {method}", *(f"{d:+.3f}" for d in (at_best, *rest))))
    return rows


def _raw_rows(setting: str, curves: dict[str, Curve]) -> list[tuple[object, ...]]:
    return [
        (setting, method, beta, s, float(curve.value[b, s]), float(curve.kl[b, s]), int(curve.converged[b, s]))
        for method, curve in curves.items()
        for b, beta in enumerate(BETAS)
        for s in range(curve.value.shape[1])
    ]


def _finding(setting: str, curves: dict[str, Curve], best: dict[str, int]) -> str:
    """One line: the best method, how RPO stands to it, and what each loses as beta falls."""
    top = max(curves, key=lambda m: curves[m].value[best[m]].mean())
    behind = mean(curves[RPO].value[best[RPO]] - curves[top].value[best[top]])
    stand = "RPO is highest" if top == RPO else f"{top} is highest, {RPO} {behind:+.3f} against it"
    falls = ", ".join(f"{m} {_fall(curves[m], best[m]):+.3f}" for m in (DPO, RPO, RPO_SMALL))
    return f"{setting}: {stand}; change from the best beta to 0.01: {falls}"


def _fall(curve: Curve, best: int) -> Estimate:
    return mean(curve.value[-1] - curve.value[best])


def _figures(everything: dict[str, dict[str, Curve]]) -> dict[str, Figure]:
    by_beta, beta_axes = new_figure(4 * len(everything), 3.6, len(everything))
    by_kl, kl_axes = new_figure(4 * len(everything), 3.6, len(everything))
    for panel, (name, curves) in enumerate(everything.items()):
        for index, (method, curve) in enumerate(curves.items()):
            value, kl = curve.value.mean(-1), curve.kl.mean(-1)
            half = 1.96 * curve.value.std(-1, ddof=1) / np.sqrt(curve.value.shape[1])
            style = {
                "color": f"C{index}",
                "label": method,
                "linewidth": 2.2 if method == RPO else 1.2,
                "marker": "o",
                "markersize": 3,
            }
            for axis, x in ((beta_axes[panel], np.array(BETAS)), (kl_axes[panel], kl)):
                axis.plot(x, value, **style)
                axis.fill_between(x, value - half, value + half, color=f"C{index}", alpha=0.2, linewidth=0)
        beta_axes[panel].set(xscale="log", title=name, xlabel="beta (nats of reward)")
        beta_axes[panel].invert_xaxis()
        kl_axes[panel].set(title=name, xlabel="KL to the reference (nats)")
    for figure, axes in ((by_beta, beta_axes), (by_kl, kl_axes)):
        axes[0].set_ylabel("true value")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return {"overoptimization_beta": by_beta, "overoptimization_kl": by_kl}
