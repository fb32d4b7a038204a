"""Duality: the maximin objective and its RPO form, solved by two methods that share nothing but the problem."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from safetyvalve.testbed.direct import DirectProblem, lower_bound, solve_maximin
from safetyvalve.testbed.finite import two_rewards
from safetyvalve.testbed.generate import Case, Kind, draw_case
from safetyvalve.testbed.output import Outcome, Table, new_figure
from safetyvalve.testbed.solve import solve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GAP", "POLICY", "Comparison", "compare", "direct_problem", "run"]

GAP, POLICY = 1e-6, 1e-4
KINDS: tuple[Kind, ...] = ("box", "box", "sparse base", "unconstrained", "linear")
STRESS = 20


class Comparison(NamedTuple):
    """What the two solvers say about one problem.

    minimax: the RPO form's minimum, less the constant that separates the two, in nats: an upper bound.
    certificate: a lower bound of the maximin from the direct solver.
    gap: their difference, which bounds the error of both.
    policy_difference: largest difference of a probability.
    vouched: whether the RPO solver converged by its own account.
    """

    minimax: float
    certificate: float
    gap: float
    policy_difference: float
    vouched: bool

    @property
    def certified(self) -> bool:
        return abs(self.gap) <= GAP and self.policy_difference <= POLICY


def direct_problem(case: Case) -> DirectProblem:
    """A case in the form of the direct solver; comparisons are counted again from the data."""
    prompts, actions = case.problem.ref.shape[1:]
    cells = prompts * actions
    found = np.argwhere(case.wins[0].numpy() > 0)
    difference = np.zeros((len(found), cells))
    rows = np.arange(len(found))
    difference[rows, found[:, 0] * actions + found[:, 1]] = 1.0
    difference[rows, found[:, 0] * actions + found[:, 2]] = -1.0
    counts = case.wins[0].numpy()[tuple(found.T)]
    lower, upper = case.bounds or (-math.inf, math.inf)
    features = np.eye(cells) if case.features is None else case.features[0].reshape(cells, -1).numpy()
    return DirectProblem(
        cost=case.eta * case.problem.d0[0].repeat_interleave(actions).numpy(),
        ref=case.problem.ref[0].flatten().numpy(),
        base=case.base[0].flatten().numpy(),
        prompt=np.repeat(np.arange(prompts), actions),
        difference=difference,
        weight=counts / counts.sum(),
        features=features,
        beta=case.beta,
        lower=lower,
        upper=upper,
    )


def compare(case: Case) -> Comparison:
    """Solve one case both ways."""
    d0, ref = case.problem.d0, case.problem.ref
    rpo = solve(
        case.wins,
        ref,
        bounds=case.bounds,
        tolerance=1e-16,
        beta=case.beta,
        eta=case.eta,
        d0=d0,
        base=case.base,
        features=case.features,
    )
    # L_RPO = minimax - eta beta E_base[log ref]: the constant that (4.8) drops.
    cross = torch.where(case.base > 0, case.base * ref.log(), torch.zeros_like(ref))
    minimax = rpo.value.item() + case.eta * case.beta * (d0[..., None] * cross).sum().item()
    direct = direct_problem(case)
    try:
        found = solve_maximin(direct)
    except np.linalg.LinAlgError:
        # Listed as not certified rather than dropped.
        return Comparison(minimax, -math.inf, math.inf, 1.0, bool(rpo.converged.all()))
    certificate = found.value
    if case.bounds is None:
        # The minimiser lies inside this box, so the unconstrained minimum is the minimum over it.
        reach = 2 * float(rpo.reward.abs().max()) + 1
        certificate = lower_bound(direct, found.policy, found.labels, (-reach, reach))
    difference = float(np.abs(found.policy - rpo.policy.flatten().numpy()).max())
    return Comparison(minimax, certificate, minimax - certificate, difference, bool(rpo.converged.all()))


def run(*, problems: int = 100, seed: int = 0) -> Outcome:
    """Compare on ``problems`` random problems, and on 20 more with beta 0.001 and rewards to 50."""
    rng = np.random.default_rng(seed)
    kinds = [KINDS[i % len(KINDS)] for i in range(problems)]
    stress: list[Kind] = ["stress"] * max(1, STRESS * problems // 100)
    rows: list[tuple[object, ...]] = []
    for index, kind in enumerate([*kinds, *stress]):
        case = draw_case(kind, rng)
        prompts, actions = case.problem.ref.shape[1:]
        result = compare(case)
        rows.append(
            (index, kind, prompts, actions, int(case.wins.sum()), case.beta, case.eta, *result, result.certified)
        )
    columns = ("problem", "kind", "prompts", "actions", "comparisons", "beta", "eta", *Comparison._fields, "certified")
    table = _summarise(rows, columns)
    failed = [row for row in rows if not row[-1]]
    regular = [row for row in rows if row[1] != "stress"]
    two = two_rewards()
    headline = [
        f"largest gap over {len(regular)} problems: {_largest(regular, columns, 'gap'):.2e} (at most {GAP:g} wanted)",
        f"largest difference of a policy: {_largest(regular, columns, 'policy_difference'):.2e} (at most {POLICY:g})",
        f"at beta 0.001 and rewards to 50, {len(stress)} problems: gap "
        f"{_largest(rows[problems:], columns, 'gap'):.2e}, policy "
        f"{_largest(rows[problems:], columns, 'policy_difference'):.2e}",
        f"not certified: {len(failed)} of {len(rows)}"
        + ("" if not failed else ": problems " + ", ".join(f"{row[0]} ({row[1]})" for row in failed)),
        f"a class of two rewards, not convex: minimax {two.minimax:.4f}, maximin {two.maximin:.4f}, gap {two.gap:.4f}",
    ]
    return Outcome("duality", headline, {"duality": table}, {"duality": Table(columns, rows)}, _figure(rows, columns))


def _largest(rows: list[tuple[object, ...]], columns: tuple[str, ...], name: str) -> float:
    return max(abs(float(str(row[columns.index(name)]))) for row in rows)


def _summarise(rows: list[tuple[object, ...]], columns: tuple[str, ...]) -> Table:
    summary: list[tuple[object, ...]] = []
    for kind in dict.fromkeys(row[1] for row in rows):
        mine = [row for row in rows if row[1] == kind]
        gap, policy = (f"{_largest(mine, columns, name):.1e}" for name in ("gap", "policy_difference"))
        summary.append((kind, len(mine), gap, policy, sum(bool(row[-1]) for row in mine)))
    return Table(("kind", "problems", "largest gap", "largest policy difference", "certified"), summary)


def _figure(rows: list[tuple[object, ...]], columns: tuple[str, ...]) -> dict[str, Figure]:
    figure, axes = new_figure(7.5, 3.2, 2)
    for axis, name, limit in zip(axes, ("gap", "policy_difference"), (GAP, POLICY), strict=True):
        for kind in dict.fromkeys(row[1] for row in rows):
            found = sorted(abs(float(str(r[columns.index(name)]))) for r in rows if r[1] == kind)
            axis.semilogy(np.arange(1, len(found) + 1) / len(found), np.maximum(found, 1e-17), ".-", label=kind)
        axis.axhline(limit, color="black", linestyle="--", linewidth=0.8)
        axis.set(xlabel="share of problems", ylabel=name.replace("_", " "))
    axes[0].legend(frameon=False, fontsize=8)
    return {"duality": figure}
