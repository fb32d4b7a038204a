"""Bad input gets a clear error: what was wrong, the value, what is accepted, the remedy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from safetyvalve.errors import UsageError
from safetyvalve.testbed import (
    Problem,
    bradley_terry,
    check_bounded,
    draw_setting,
    independent_pairs,
    kl_link,
    linear_coverage,
    mixed_chi2_link,
    sample_wins,
    solve,
    suboptimality_bound,
)
from safetyvalve.testbed.summary import mean


def table(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([list(rows)], dtype=torch.float64)


ONE = torch.ones(1, 1, dtype=torch.float64)
REF = table([0.5, 0.3, 0.2])
BASE = table([0.6, 0.4, 0.0])


def wins(*pairs: tuple[int, int]) -> torch.Tensor:
    counts = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    for winner, loser in pairs:
        counts[0, 0, winner, loser] += 1
    return counts


DATA = wins((0, 1), (1, 0), (0, 2))


def call(**changes: Any) -> Any:
    settings: dict[str, Any] = {"bounds": (0.0, 4.0), "beta": 0.1, "eta": 0.5, "d0": ONE, "base": BASE}
    data, ref = changes.pop("wins", DATA), changes.pop("ref", REF)
    return solve(data, ref, **(settings | changes))


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"eta": -1.0}, "eta is -1.0"),
        ({"base": None}, "baseline are missing"),
        ({"bounds": (4.0, 0.0)}, r"box on the reward is \[4, 0\].*infeasible"),
        ({"bounds": (1.0, 1.0)}, r"box on the reward is \[1, 1\].*infeasible"),
        ({"bounds": (0.0, math.inf)}, "infeasible"),
        ({"ref": table([0.0, 0.6, 0.4]), "wins": wins((1, 2))}, "baseline has mass on data set 0, prompt 0, action 0"),
        ({"ref": table([0.7, 0.3, 0.0])}, "data compare on data set 0, prompt 0, action 2"),
        ({"ref": table([0.5, 0.3, 0.3])}, "the reference has a row that sums to"),
        ({"base": table([1.2, -0.2, 0.0])}, "the baseline has a negative"),
        ({"bounds": None}, "reward is unbounded.*action 2.*Use a box on r"),
        ({"bounds": None, "features": torch.zeros(1, 1, 3, 2, dtype=torch.float64)}, "weights need a box"),
    ],
)
def test_solve_refuses(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        call(**changes)


class TestBoundedness:
    """An unconstrained minimum exists exactly if every action is in the baseline or beats one through a chain."""

    def test_a_win_over_the_baseline_is_enough(self) -> None:
        assert call(wins=wins((0, 1), (2, 0)), bounds=None).converged.all()

    def test_a_chain_of_wins_is_enough(self) -> None:
        only_first = table([1.0, 0.0, 0.0])
        found = call(wins=wins((1, 0), (2, 1)), bounds=None, base=only_first)
        assert found.converged.all()
        assert found.policy[0, 0, 2] > 0

    def test_winning_only_against_outsiders_is_not(self) -> None:
        with pytest.raises(UsageError, match="action 1"):
            call(wins=wins((1, 2), (2, 1)), bounds=None, base=table([1.0, 0.0, 0.0]))

    def test_an_action_that_the_reference_excludes_does_not_matter(self) -> None:
        ref = table([0.6, 0.4, 0.0])
        assert call(wins=wins((0, 1)), bounds=None, ref=ref).converged.all()

    def test_dpo_needs_wins_both_ways(self) -> None:
        zero = torch.zeros_like(REF)
        check_bounded(wins((0, 1), (1, 0)), zero, REF)
        check_bounded(wins((0, 1), (1, 2), (2, 0)), zero, REF)
        with pytest.raises(UsageError, match="Use a box on r"):
            check_bounded(wins((0, 1), (1, 0), (0, 2)), zero, REF)

    def test_it_is_really_unbounded(self) -> None:
        """A wider box keeps lowering the objective, and the reward stays at its edge."""
        narrow, wide, wider = (call(bounds=(0.0, r)) for r in (4.0, 8.0, 16.0))
        assert narrow.value > wide.value > wider.value
        assert wider.reward[0, 0, 2] == 0.0


@pytest.mark.parametrize(
    ("attempt", "fragment"),
    [
        (lambda: kl_link(REF[0], REF[0].log(), 0.0), "beta is 0.0"),
        (lambda: mixed_chi2_link(REF[0], REF[0].log(), -1.0), "beta is -1.0"),
        (lambda: suboptimality_bound(0, reward_range=1, coverage=1, kl=1, parameters=3), "n=0"),
        (lambda: suboptimality_bound(10, reward_range=1, coverage=1, kl=1), "neither log_covering nor parameters"),
        (lambda: mean([1.0]), "at least 2 data sets"),
        (lambda: draw_setting("easy", 2, np.random.default_rng(0)), "setting is 'easy'; accepted: uniform"),  # type: ignore[arg-type]
    ],
)
def test_other_refusals(attempt: Any, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        attempt()


def test_an_empty_data_set_is_refused() -> None:
    problem = Problem(ONE, REF, torch.zeros_like(REF), independent_pairs(ONE, REF), bradley_terry(REF))
    with pytest.raises(UsageError, match="a data set of 0 comparisons"):
        sample_wins(problem, 0, np.random.default_rng(0))
    with pytest.raises(UsageError, match="features have shape"):
        linear_coverage(problem, torch.zeros(1, 1, 2, 2, dtype=torch.float64), REF, REF)


class TestStress:
    """beta 0.001 and rewards to 50."""

    def test_policies_are_finite_and_normal(self) -> None:
        reward = torch.tensor([[0.0, 50.0, 49.999], [50.0, 50.0, 0.0]], dtype=torch.float64)
        log_ref = torch.tensor([[0.9, 1e-6, 0.1 - 1e-6], [0.2, 0.3, 0.5]], dtype=torch.float64).log()
        for link in (kl_link, mixed_chi2_link):
            policy = link(reward, log_ref, 1e-3).log_policy
            assert torch.isfinite(policy).all()
            assert torch.allclose(policy.exp().sum(-1), torch.ones(2, dtype=torch.float64), atol=1e-9)
        by_hand = kl_link(reward, log_ref, 1e-3).log_policy[1]
        assert by_hand[0].item() == pytest.approx(math.log(0.4), abs=1e-9)
        assert by_hand[2].item() == pytest.approx(-50_000 + math.log(0.5) - math.log(0.5), abs=1e-6)

    def test_the_solution_satisfies_the_first_order_conditions(self) -> None:
        from safetyvalve.testbed.solve import objective_for

        settings: dict[str, Any] = {"beta": 1e-3, "eta": 0.3, "d0": ONE, "base": BASE}
        found = solve(DATA, REF, bounds=(0.0, 50.0), tolerance=1e-16, **settings)
        gradient = objective_for(DATA, REF, **settings).at(found.reward[0]).gradient[0]
        for value, slope in zip(found.reward[0, 0].tolist(), gradient.tolist(), strict=True):
            if value <= 0.0:
                assert slope >= -1e-9
            elif value >= 50.0:
                assert slope <= 1e-9
            else:
                assert abs(slope) < 1e-7
