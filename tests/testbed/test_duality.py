"""The direct maximin solver, its certificate, and the RPO form beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from safetyvalve.errors import UsageError
from safetyvalve.testbed import draw_case, lower_bound, solve_maximin
from safetyvalve.testbed.direct import DirectProblem
from safetyvalve.testbed.experiments.duality import GAP, POLICY, compare, direct_problem, run
from safetyvalve.testbed.generate import Case, Kind

KINDS: list[Kind] = ["box", "sparse base", "unconstrained", "linear", "stress"]


def case_of(kind: Kind, seed: int) -> Case:
    return draw_case(kind, np.random.default_rng([seed, KINDS.index(kind)]))


def worst_reward(problem: DirectProblem, policy: np.ndarray) -> float:
    """min over r of the explicit objective at a policy, by L-BFGS-B on r: written from the definition."""

    def phi(w: np.ndarray) -> tuple[float, np.ndarray]:
        r = problem.features @ w
        margin = problem.difference @ r
        kl = float(problem.cost @ (policy * np.log(np.maximum(policy, 1e-300) / problem.ref)))
        value = problem.cost @ ((policy - problem.base) * r) - problem.beta * kl
        value += problem.weight @ np.logaddexp(0, -margin)
        slope = problem.cost * (policy - problem.base)
        slope = slope - problem.difference.T @ (problem.weight / (1 + np.exp(margin)))
        return float(value), problem.features.T @ slope

    size = problem.features.shape[1]
    middle = (problem.lower + problem.upper) / 2
    found = minimize(
        phi, np.full(size, middle), jac=True, method="L-BFGS-B", bounds=[(problem.lower, problem.upper)] * size,
        options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    return float(found.fun)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_both_forms_agree(kind: Kind, seed: int) -> None:
    result = compare(case_of(kind, seed))
    assert -1e-9 <= result.gap <= GAP
    assert result.policy_difference <= POLICY
    assert result.certified
    assert result.vouched


@pytest.mark.parametrize("kind", ["box", "sparse base", "linear"])
def test_a_third_solver_agrees(kind: Kind) -> None:
    """The explicit objective at the direct solver's policy, its worst reward found by L-BFGS-B."""
    problem = direct_problem(case_of(kind, 5))
    found = solve_maximin(problem)
    assert worst_reward(problem, found.policy) == pytest.approx(found.value, abs=1e-6)
    assert worst_reward(problem, problem.ref) < found.value - 1e-5


@pytest.mark.parametrize("kind", ["box", "linear"])
def test_any_policy_and_labels_are_worth_less_than_the_certificate(kind: Kind) -> None:
    problem = direct_problem(case_of(kind, 2))
    found = solve_maximin(problem)
    rng = np.random.default_rng(0)
    cells = problem.prompt.max() + 1
    for _ in range(50):
        noisy = found.policy * np.exp(0.1 * rng.normal(size=len(found.policy)))
        noisy /= np.bincount(problem.prompt, weights=noisy, minlength=cells)[problem.prompt]
        labels = np.clip(found.labels + 0.02 * rng.normal(size=len(found.labels)), 1e-9, 1 - 1e-9)
        assert lower_bound(problem, noisy, labels) < found.value + 1e-9


def test_the_check_sees_a_wrong_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """With eta off by one percent in one of the two, the gap is far above what is accepted."""
    import safetyvalve.testbed.experiments.duality as module

    case = case_of("box", 1)
    right = direct_problem(case)
    monkeypatch.setattr(module, "direct_problem", lambda _: right._replace(cost=right.cost * 1.01))
    assert not module.compare(case).certified


def test_a_problem_that_cannot_be_solved_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    import safetyvalve.testbed.experiments.duality as module

    def fails(_: DirectProblem) -> None:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(module, "solve_maximin", fails)
    outcome = module.run(problems=2, seed=0)
    assert "not certified: 3 of 3: problems 0 (box), 1 (box), 2 (stress)" in outcome.headline
    assert len(outcome.raw["duality"].rows) == 3


def test_an_infeasible_box_is_refused() -> None:
    problem = direct_problem(case_of("box", 0))
    with pytest.raises(UsageError, match="infeasible"):
        solve_maximin(problem._replace(lower=2.0, upper=1.0))
    with pytest.raises(UsageError, match="both infinite"):
        solve_maximin(problem._replace(upper=np.inf))


def test_the_generator_leaves_actions_and_prompts_without_data() -> None:
    rng = np.random.default_rng(1)
    empty_actions = empty_prompts = 0
    for _ in range(40):
        case = draw_case("box", rng)
        seen = (case.wins.sum(-1) + case.wins.sum(-2))[0]
        empty_prompts += int((seen.sum(-1) == 0).sum())
        empty_actions += int(((seen == 0) & (seen.sum(-1, keepdim=True) > 0)).sum())
    assert empty_actions > 40
    assert empty_prompts > 10


def test_a_run_prints_the_largest_gap() -> None:
    outcome = run(problems=5, seed=3)
    raw = outcome.raw["duality"]
    gaps = [abs(float(str(row[raw.columns.index("gap")]))) for row in raw.rows[:5]]
    assert outcome.headline[0].startswith(f"largest gap over 5 problems: {max(gaps):.2e}")
    assert any("gap 0.4307" in line for line in outcome.headline)


@pytest.mark.slow
def test_a_hundred_problems() -> None:
    outcome = run(problems=100, seed=0)
    raw = outcome.raw["duality"]
    results: list[Any] = [dict(zip(raw.columns, row, strict=True)) for row in raw.rows]
    assert len(results) == 120
    assert max(abs(r["gap"]) for r in results) <= GAP
    assert max(r["policy_difference"] for r in results) <= POLICY
