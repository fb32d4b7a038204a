"""The test bed against exact cases (tests/oracle.json), computed elsewhere with 40 digits."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from safetyvalve.testbed import (
    Problem,
    Solution,
    bradley_terry,
    chipo_loss,
    coverage,
    kl_link,
    linear_coverage,
    solve,
    suboptimality_bound,
)
from safetyvalve.testbed.derivatives import Objective
from safetyvalve.testbed.finite import two_rewards
from safetyvalve.testbed.problem import expected_kl
from safetyvalve.testbed.solve import objective_for

TIGHT = {"rel": 1e-12, "abs": 1e-13}


def tensor(values: Any) -> Tensor:
    """Nested lists of numbers, decimal strings or fractions, as float64."""
    if isinstance(values, list):
        return torch.stack([tensor(v) for v in values])
    return torch.tensor(float(Fraction(str(values))), dtype=torch.float64)


def wins_of(pairs: list[list[int]], prompts: int, actions: int) -> Tensor:
    wins = torch.zeros(1, prompts, actions, actions, dtype=torch.float64)
    for prompt, winner, loser in pairs:
        wins[0, prompt, winner, loser] += 1
    return wins


def two_action_wins(n01: int, n10: int, actions: int = 2) -> Tensor:
    return wins_of([[0, 0, 1]] * n01 + [[0, 1, 0]] * n10, 1, actions)


ONE = torch.ones(1, 1, dtype=torch.float64)


class TestMaximinA:
    @pytest.fixture
    def solution(self, oracle: dict[str, Any]) -> Solution:
        case = oracle["maximin_A"]["input"]
        ref = tensor([[[case["ref0"], 1 - case["ref0"]]]])
        base = tensor([[[case["base0"], 1 - case["base0"]]]])
        wins = two_action_wins(case["n01"], case["n10"])
        return solve(wins, ref, bounds=None, beta=case["beta"], eta=case["eta"], d0=ONE, base=base, tolerance=1e-16)

    def test_reward_policy_and_loss(self, oracle: dict[str, Any], solution: Solution) -> None:
        expected = oracle["maximin_A"]["output"]
        assert solution.reward[0, 0, 0] - solution.reward[0, 0, 1] == pytest.approx(expected["reward_gap_D"], abs=1e-9)
        assert solution.policy[0, 0, 0] == pytest.approx(expected["pi0"], abs=1e-9)
        assert solution.value.item() == pytest.approx(expected["rpo_loss"], **TIGHT)

    def test_without_eta_it_is_dpo(self, oracle: dict[str, Any]) -> None:
        case, expected = oracle["maximin_A"]["input"], oracle["maximin_A"]["output"]["dpo_limit_eta0"]
        ref = tensor([[[case["ref0"], 1 - case["ref0"]]]])
        found = solve(two_action_wins(case["n01"], case["n10"]), ref, bounds=None, beta=case["beta"], tolerance=1e-16)
        assert found.reward[0, 0, 0] - found.reward[0, 0, 1] == pytest.approx(expected["D"], abs=1e-9)
        assert found.policy[0, 0, 0] == pytest.approx(expected["pi0"], abs=1e-9)


class TestMaximinB:
    def test_everything(self, oracle: dict[str, Any]) -> None:
        case, expected = oracle["maximin_B"]["input"], oracle["maximin_B"]["output"]
        d0, ref, base = tensor([case["d0"]]), tensor([case["ref"]]), tensor([case["base"]])
        wins = wins_of(case["pairs"], 2, 3)
        found = solve(wins, ref, bounds=None, beta=case["beta"], eta=case["eta"], d0=d0, base=base, tolerance=1e-16)
        centred = found.reward - found.reward.mean(-1, keepdim=True)
        assert torch.allclose(centred[0], tensor(expected["r"]), atol=1e-8, rtol=0)
        assert torch.allclose(found.policy[0], tensor(expected["pi"]), atol=1e-8, rtol=0)
        assert found.value.item() == pytest.approx(expected["rpo_loss"], **TIGHT)
        constant = case["eta"] * case["beta"] * (d0[..., None] * base * ref.log()).sum()
        assert -constant.item() == pytest.approx(expected["minus_eta_beta_Ebase_logref"], **TIGHT)
        assert (found.value + constant).item() == pytest.approx(expected["value"], **TIGHT)
        assert expected_kl(d0, found.log_policy, ref).item() == pytest.approx(expected["E_KL"], abs=1e-8)


class TestMaximinCBox:
    @pytest.fixture
    def parts(self, oracle: dict[str, Any]) -> tuple[Objective, Solution]:
        case = oracle["maximin_C_box"]["input"]
        ref, base = tensor([[case["ref"]]]), tensor([[case["base"]]])
        wins = two_action_wins(case["n01"], case["n10"], 3)
        settings: dict[str, Any] = {"beta": case["beta"], "eta": case["eta"], "d0": ONE, "base": base}
        found = solve(wins, ref, bounds=(0.0, case["R"]), tolerance=1e-16, **settings)
        return objective_for(wins, ref, **settings), found

    def test_reward_and_policy(self, oracle: dict[str, Any], parts: tuple[Objective, Solution]) -> None:
        expected = oracle["maximin_C_box"]["output"]
        assert torch.allclose(parts[1].reward[0, 0], tensor(expected["r"]), atol=1e-8, rtol=0)
        assert torch.allclose(parts[1].policy[0, 0], tensor(expected["pi"]), atol=1e-8, rtol=0)

    def test_optimality_at_the_faces(self, oracle: dict[str, Any], parts: tuple[Objective, Solution]) -> None:
        expected = oracle["maximin_C_box"]["output"]
        gradient = parts[0].at(parts[1].reward[0]).gradient[0]
        assert gradient[0].item() == pytest.approx(expected["grad_at_r0"], rel=1e-6)
        assert gradient[2].item() == pytest.approx(expected["grad_at_r2"], rel=1e-6)
        assert abs(gradient[1].item()) < 1e-12

    def test_value(self, oracle: dict[str, Any], parts: tuple[Objective, Solution]) -> None:
        case, expected = oracle["maximin_C_box"]["input"], oracle["maximin_C_box"]["output"]
        ref, base = tensor(case["ref"]), tensor(case["base"])
        constant = case["eta"] * case["beta"] * (base * ref.log()).sum()
        assert (parts[1].value + constant).item() == pytest.approx(expected["value"], **TIGHT)

    def test_dpo_in_the_box(self, oracle: dict[str, Any]) -> None:
        case, expected = oracle["maximin_C_box"]["input"], oracle["maximin_C_box"]["output"]
        wins = two_action_wins(case["n01"], case["n10"], 3)
        found = solve(wins, tensor([[case["ref"]]]), bounds=(0.0, case["R"]), beta=case["beta"], tolerance=1e-16)
        gap = found.reward[0, 0, 0] - found.reward[0, 0, 1]
        assert gap.item() == pytest.approx(expected["dpo_box_interior_gap"], abs=1e-9)


def test_the_non_convex_gap(oracle: dict[str, Any]) -> None:
    case, expected = oracle["nonconvex_gap"]["input"], oracle["nonconvex_gap"]["output"]
    found = two_rewards(case["beta"], case["eta"])
    assert found.minimax == pytest.approx(expected["minimax"], **TIGHT)
    assert found.maximin == pytest.approx(expected["maximin"], abs=1e-9)
    assert found.gap == pytest.approx(expected["gap"], abs=1e-9)
    policy = kl_link(tensor([[1.0, 0.0]]), tensor([[0.5, 0.5]]).log(), case["beta"]).log_policy.exp()
    assert policy[0, 0].item() == pytest.approx(expected["pi_rhat0"], **TIGHT)


def coverage_problem(mu: dict[str, float], actions: int) -> Problem:
    law = torch.zeros(1, 1, actions, actions, dtype=torch.float64)
    for pair, weight in mu.items():
        law[0, 0, int(pair[0]), int(pair[1])] = weight
    reward = torch.zeros(1, 1, actions, dtype=torch.float64)
    return Problem(ONE, torch.full_like(reward, 1 / actions), reward, law, bradley_terry(reward))


@pytest.mark.parametrize("index", range(4))
def test_coverage(oracle: dict[str, Any], index: int) -> None:
    case = oracle["coverage"]["cases"][index]
    problem = coverage_problem(case["mu"], 3)
    found = coverage(problem, tensor([[case["pi"]]]), tensor([[case["base"]]])).item()
    if case["C"] == "inf":
        assert math.isinf(found)
    else:
        assert found == pytest.approx(case["C"], rel=1e-10)
        assert found**2 == pytest.approx(float(Fraction(case["C_squared_fraction"])), rel=1e-10)


def test_coverage_of_a_linear_class(oracle: dict[str, Any]) -> None:
    case = oracle["coverage"]["linear"]
    problem = coverage_problem(case["mu"], 3)
    phi = tensor([[case["phi"]]])
    found = linear_coverage(problem, phi, tensor([[case["pi"]]]), tensor([[case["base"]]])).item()
    assert found == pytest.approx(case["C"], rel=1e-10)


@pytest.mark.parametrize("index", range(3))
def test_the_bound(oracle: dict[str, Any], index: int) -> None:
    given, expected = oracle["theorem53"][index]["input"], oracle["theorem53"][index]["output"]
    found = suboptimality_bound(
        given["N"],
        reward_range=given["R"],
        coverage=given["C"],
        kl=given["KL"],
        log_covering=given["log_cover"],
        delta=given["delta"],
    )
    for name in ("iota", "eta", "beta", "epsilon", "bound"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-12), name


def test_the_best_policy_for_a_reward(oracle: dict[str, Any]) -> None:
    case = oracle["lemma41"]
    reward, ref = tensor([case["r"]]), tensor([case["ref"]])
    log_policy = kl_link(reward, ref.log(), case["beta"]).log_policy
    policy = log_policy.exp()
    assert torch.allclose(policy[0], tensor(case["pi"]), atol=1e-14)
    kl = expected_kl(ONE, log_policy[None], ref[None]).item()
    assert kl == pytest.approx(case["KL"], **TIGHT)
    assert (policy * reward).sum().item() == pytest.approx(case["reward"], **TIGHT)
    assert (policy * reward).sum().item() - case["beta"] * kl == pytest.approx(case["value"], **TIGHT)


def test_a_tabular_point(oracle: dict[str, Any]) -> None:
    """Losses and envelope gradient at a policy given by logits: r = beta (logits - log ref)."""
    case, expected = oracle["tabular_point"]["input"], oracle["tabular_point"]["output"]
    beta = case["beta"]
    d0, ref, base = tensor([case["d0"]]), tensor([case["ref"]]), tensor([case["base"]])
    wins = wins_of(case["pairs"], 2, 3)
    reward = beta * (tensor(case["logits"]) - ref[0].log())
    rpo = objective_for(wins, ref, beta=beta, eta=case["eta"], d0=d0, base=base).at(reward)
    dpo = objective_for(wins, ref, beta=beta).at(reward)
    assert rpo.value.sum().item() == pytest.approx(expected["rpo_loss"], **TIGHT)
    assert dpo.value.sum().item() == pytest.approx(expected["dpo_loss"], **TIGHT)
    sft = (rpo.value - dpo.value).sum().item() / (case["eta"] * beta)
    assert sft == pytest.approx(expected["sft_ce"], rel=1e-11)
    assert torch.allclose(rpo.gradient, tensor(expected["dV_dr"]), atol=1e-14)
    assert torch.allclose(beta * rpo.gradient, tensor(expected["grad_logits"]), atol=1e-14)


class TestLength:
    """What the SFT term alone converges to under each reduction, when responses differ in length."""

    def minimiser(self, oracle: dict[str, Any], **settings: Any) -> Tensor:
        case = oracle["length"]
        base = tensor([[case["base"]]])
        wins = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
        uniform = torch.full_like(base, 1 / 3)
        found = solve(
            wins, uniform, bounds=None, beta=1.0, eta=1.0, d0=ONE, base=base, tolerance=1e-16,
            lengths=tensor([[case["lengths"]]]), **settings,
        )  # fmt: skip
        return found.policy[0, 0]

    def test_the_sum_and_the_token_mean_keep_the_baseline(self, oracle: dict[str, Any]) -> None:
        base, mean_length = tensor(oracle["length"]["base"]), oracle["length"]["E_len_base"]
        assert torch.allclose(self.minimiser(oracle, reduction="sum"), base, atol=1e-8)
        pooled = self.minimiser(oracle, reduction="batch_token_mean", mean_length=mean_length)
        assert torch.allclose(pooled, base, atol=1e-8)

    def test_the_sequence_mean_tilts_to_short_answers(self, oracle: dict[str, Any]) -> None:
        case = oracle["length"]
        found = self.minimiser(oracle, reduction="sequence_mean")
        assert torch.allclose(found, tensor(case["tilted"]), atol=1e-8)
        assert (found * tensor(case["lengths"])).sum().item() == pytest.approx(case["E_len_tilted"], abs=1e-6)

    def test_the_sequence_mean_is_the_sum_with_another_eta_and_baseline(self, oracle: dict[str, Any]) -> None:
        case = oracle["length"]
        wins = wins_of([[0, 2, 0]] * 3 + [[0, 0, 2]] + [[0, 1, 2]] * 2, 1, 3)
        ref = tensor([[[0.2, 0.5, 0.3]]])
        kwargs: dict[str, Any] = {"bounds": None, "beta": 0.3, "d0": ONE, "tolerance": 1e-16}
        mean = solve(
            wins, ref, eta=0.9, base=tensor([[case["base"]]]), lengths=tensor([[case["lengths"]]]),
            reduction="sequence_mean", **kwargs,
        )  # fmt: skip
        total = solve(wins, ref, eta=0.9 * case["c"], base=tensor([[case["tilted"]]]), **kwargs)
        assert torch.allclose(mean.policy, total.policy, atol=1e-8)


@pytest.mark.parametrize("index", range(5))
def test_chipo(oracle: dict[str, Any], index: int) -> None:
    case = oracle["pairwise"]["cases"][index]
    inputs = [torch.tensor([case["input"][k]], dtype=torch.float64) for k in ("pc", "pr", "rc", "rr")]
    for value in inputs[:2]:
        value.requires_grad_()
    loss = partial(chipo_loss, max_reward=1.0)(*inputs, beta=case["input"]["beta"])
    assert loss.item() == pytest.approx(case["chipo_loss_Rmax1"], rel=1e-12)
    grads = torch.autograd.grad(loss.sum(), inputs[:2])
    assert grads[0].item() == pytest.approx(case["chipo_grad"]["pc"], rel=1e-12, abs=1e-15)
    assert grads[1].item() == pytest.approx(case["chipo_grad"]["pr"], rel=1e-12, abs=1e-15)
    assert (grads[0].item() == 0.0) == case["chipo_clipped"]
