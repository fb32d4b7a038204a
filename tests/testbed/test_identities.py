"""Identities of the theory on random problems: what RPO's solution must satisfy whatever the data."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from safetyvalve.objectives import dpo_loss, ipo_loss
from safetyvalve.testbed import (
    Problem,
    bradley_terry,
    chipo_loss,
    chosen_baseline,
    coverage,
    draw_case,
    independent_pairs,
    kl_link,
    laplacian,
    mixed_chi2_link,
    rpo,
    sample_wins,
    solve,
)
from safetyvalve.testbed.derivatives import Objective
from safetyvalve.testbed.methods import Data
from safetyvalve.testbed.solve import objective_for

GENERATOR = 20240524


def drawn(kind: Any, count: int = 6) -> list[Any]:
    rng = np.random.default_rng(GENERATOR)
    return [draw_case(kind, rng) for _ in range(count)]


def settings_of(case: Any) -> dict[str, Any]:
    return {"beta": case.beta, "eta": case.eta, "d0": case.problem.d0, "base": case.base, "features": case.features}


def score(wins: Tensor, reward: Tensor) -> Tensor:
    """(1/N) sum_i sigma(-Delta_i) (1[chosen] - 1[rejected]), written from the definition."""
    total = torch.zeros_like(reward)
    for s, x, a, b in wins.nonzero().tolist():
        weight = wins[s, x, a, b] * torch.sigmoid(reward[s, x, b] - reward[s, x, a])
        total[s, x, a] += weight
        total[s, x, b] -= weight
    return total / wins.sum()


@pytest.mark.parametrize("case", drawn("unconstrained"))
def test_stationarity(case: Any) -> None:
    found = solve(case.wins, case.problem.ref, bounds=None, tolerance=1e-16, **settings_of(case))
    left = case.problem.d0[..., None] * (found.policy - case.base)
    assert torch.allclose(left, score(case.wins, found.reward) / case.eta, atol=1e-7, rtol=0)


@pytest.mark.parametrize("bounds", [None, (0.0, 4.0)])
def test_a_prompt_without_data_gets_the_baseline_and_under_dpo_the_reference(bounds: Any) -> None:
    ref = torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]], dtype=torch.float64)
    base = torch.tensor([[[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]]], dtype=torch.float64)
    d0 = torch.tensor([[0.7, 0.3]], dtype=torch.float64)
    wins = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    wins[0, 0] = torch.tensor([[0.0, 4.0, 1.0], [2.0, 0.0, 3.0], [1.0, 1.0, 0.0]])
    settings: dict[str, Any] = {"bounds": bounds, "beta": 0.5, "tolerance": 1e-16}
    with_baseline = solve(wins, ref, eta=0.7, d0=d0, base=base, **settings).policy[0]
    without = solve(wins, ref, **settings).policy[0]
    assert torch.allclose(with_baseline[1], base[0, 1], atol=1e-9)
    assert torch.allclose(without[1], ref[0, 1], atol=1e-12)
    assert not torch.allclose(with_baseline[0], base[0, 0], atol=0.02)
    assert not torch.allclose(without[0], ref[0, 0], atol=0.02)


def whole(objective: Objective, reward: Tensor) -> Tensor:
    """The objective as a user would write it: log-softmax, the shipped loss on each comparison, autograd."""
    logps = torch.log_softmax(objective.log_ref + reward / objective.beta, -1)
    block, winner, loser, weight = objective.rows
    losses = objective.loss(
        logps[block, winner],
        logps[block, loser],
        objective.log_ref[block, winner],
        objective.log_ref[block, loser],
        beta=objective.beta,
    )
    return (weight * losses).sum() - (objective.pressure * logps).sum()


@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss, partial(dpo_loss, label_smoothing=0.1)])
@pytest.mark.parametrize("case", drawn("box", 3))
def test_the_gradient_is_autograds_and_the_envelopes(case: Any, loss: Any) -> None:
    objective = objective_for(case.wins, case.problem.ref, loss=loss, **settings_of(case))
    reward = torch.as_tensor(np.random.default_rng(3).normal(size=tuple(objective.log_ref.shape))).requires_grad_()
    terms = objective.at(reward.detach())
    (by_autograd,) = torch.autograd.grad(whole(objective, reward), reward)
    assert torch.allclose(terms.gradient, by_autograd, atol=1e-12 * float(1 + by_autograd.abs().max()))
    policy = kl_link(reward.detach(), objective.log_ref, case.beta).log_policy.exp()
    preference = objective_for(case.wins, case.problem.ref, loss=loss, beta=case.beta).at(reward.detach())
    pull = case.problem.d0.flatten()[:, None] * (policy - case.base[0])
    envelope = case.eta * pull + preference.gradient
    assert torch.allclose(terms.gradient, envelope, atol=1e-12 * float(1 + envelope.abs().max()))


@pytest.mark.parametrize(
    ("kind", "loss", "link"),
    [
        ("box", dpo_loss, kl_link),
        ("box", ipo_loss, kl_link),
        ("box", partial(chipo_loss, max_reward=20.0), mixed_chi2_link),
        ("linear", dpo_loss, kl_link),
    ],
)
def test_the_hessian_is_the_gradients_slope(kind: Any, loss: Any, link: Any) -> None:
    case = drawn(kind, 2)[1]
    case = case._replace(beta=max(case.beta, 0.3))
    objective = objective_for(case.wins, case.problem.ref, loss=loss, link=link, **settings_of(case))
    groups, size = (1, case.features.shape[-1]) if kind == "linear" else objective.log_ref.shape
    point = torch.as_tensor(np.random.default_rng(4).uniform(0, 1, (groups, size)))
    terms = objective.at(point)
    assert terms.hessian is not None
    for j in range(size):
        step = torch.zeros_like(point)
        step[:, j] = 1e-6
        slope = (objective.at(point + step).gradient - objective.at(point - step).gradient) / 2e-6
        scale = float(1 + terms.hessian.abs().max())
        assert torch.allclose(terms.hessian[:, :, j], slope, atol=2e-7 * scale)


@pytest.mark.parametrize("beta", [0.02, 0.3, 2.0])
def test_chipo_on_its_own_policies_is_the_likelihood_of_the_reward(beta: float) -> None:
    """The mixed link makes beta (phi(z_a) - phi(z_b)) the difference of rewards."""
    reward = torch.tensor([[0.0, 1.5, 4.0, 2.0]], dtype=torch.float64)
    log_ref = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).log()
    log_policy = mixed_chi2_link(reward, log_ref, beta).log_policy
    assert log_policy.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    a, b = torch.tensor([0, 1, 2]), torch.tensor([3, 2, 1])
    losses = chipo_loss(log_policy[0, a], log_policy[0, b], log_ref[0, a], log_ref[0, b], beta=beta, max_reward=4.0)
    expected = -torch.nn.functional.logsigmoid(reward[0, a] - reward[0, b])
    assert torch.allclose(losses, expected, atol=1e-10)


def test_the_mixed_link_solves_the_mixed_program() -> None:
    """It is the best policy for reward less beta (KL + chi-squared / 2): no nearby policy is better."""
    reward = torch.tensor([[0.0, 1.5, 4.0]], dtype=torch.float64)
    ref = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    beta = 0.7

    def worth(policy: Tensor) -> float:
        ratio = policy / ref
        penalty = (policy * ratio.log()).sum() + ((ref * ratio**2).sum() - 1) / 2
        return float((policy * reward).sum() - beta * penalty)

    best = mixed_chi2_link(reward, ref.log(), beta).log_policy.exp()
    for direction in ([1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, -1.0]):
        for sign in (1e-3, -1e-3):
            assert worth(best + sign * torch.tensor([direction], dtype=torch.float64)) < worth(best)


def test_imitation_at_large_eta() -> None:
    """Total variation to the baseline falls as 1/eta: each doubling of eta halves it."""
    case = drawn("unconstrained", 1)[0]
    distances = []
    for eta in (50.0, 100.0, 200.0):
        found = solve(
            case.wins, case.problem.ref, bounds=None, beta=case.beta, eta=eta, d0=case.problem.d0, base=case.base,
            tolerance=1e-16,
        )  # fmt: skip
        distances.append(float((found.policy - case.base).abs().sum()) / 2)
    assert distances[1] / distances[0] == pytest.approx(0.5, abs=0.02)
    assert distances[2] / distances[1] == pytest.approx(0.5, abs=0.01)


def test_coverage_is_the_supremum_it_stands_for() -> None:
    """No reward beats the closed form, and the maximising one attains it."""
    rng = np.random.default_rng(8)
    law = torch.as_tensor(rng.dirichlet(np.ones(5), (1, 3)))
    d0 = torch.as_tensor(rng.dirichlet(np.ones(3), 1))
    reward = torch.zeros(1, 3, 5, dtype=torch.float64)
    problem = Problem(d0, law, reward, independent_pairs(d0, law), bradley_terry(reward))
    comparator, base = (torch.as_tensor(rng.dirichlet(np.ones(5), (1, 3))) for _ in range(2))
    c = coverage(problem, comparator, base).item()
    direction = d0[..., None] * (comparator - base)
    moment = laplacian(problem.pair_law)

    def ratio(delta: Tensor) -> float:
        spread = torch.einsum("sxa,sxab,sxb->", delta, moment, delta)
        return float((direction * delta).sum() / spread.sqrt())

    tried = [ratio(torch.as_tensor(rng.normal(size=(1, 3, 5)))) for _ in range(200)]
    assert max(tried) < c
    best = torch.einsum("sxab,sxb->sxa", torch.linalg.pinv(moment), direction)
    assert ratio(best) == pytest.approx(c, rel=1e-9)


def test_dpo_and_ipo_learn_one_reward_at_every_beta() -> None:
    case = drawn("box", 2)[1]
    for loss in (dpo_loss, ipo_loss):
        rewards = [solve(case.wins, case.problem.ref, bounds=(0.0, 4.0), beta=b, loss=loss).reward for b in (0.05, 1.0)]
        assert torch.allclose(rewards[0], rewards[1], atol=1e-4)


def test_rpo_trusts_actions_with_enough_data_only() -> None:
    """An action with n comparisons gets at most about n / (eta N d0) above its share in the baseline."""
    wins = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    wins[0, 0, 0, 1] = wins[0, 0, 1, 0] = 50.0
    wins[0, 0, 2, 0] = 2.0
    ref = torch.full((1, 1, 3), 1 / 3, dtype=torch.float64)
    data = Data(torch.ones(1, 1, dtype=torch.float64), ref, wins, (0.0, 4.0))
    eta = 0.5
    base = chosen_baseline(wins, ref)
    policy = rpo(data, (0.05,), eta=eta)[0].log_policy.exp()
    assert policy[0, 0, 2] <= base[0, 0, 2] + 2 / (eta * 102) + 1e-9
    unleashed = solve(wins, ref, bounds=(0.0, 4.0), beta=0.05).policy
    assert unleashed[0, 0, 2] > 0.9


def test_sampling_keeps_the_laws() -> None:
    rng = np.random.default_rng(5)
    law = torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64)
    reward = torch.tensor([[[1.0, 0.0, 2.0]]], dtype=torch.float64)
    d0 = torch.ones(1, 1, dtype=torch.float64)
    problem = Problem(d0, law, reward, independent_pairs(d0, law), bradley_terry(reward))
    wins = sample_wins(problem, 200_000, rng)
    assert wins.sum().item() == 200_000
    assert wins.diagonal(dim1=-2, dim2=-1).abs().max().item() == 0
    share = (wins[0, 0, 0, 1] + wins[0, 0, 1, 0]) / wins.sum()
    assert share.item() == pytest.approx(0.15 / 0.31, abs=0.005)
    assert (wins[0, 0, 2, 0] / (wins[0, 0, 2, 0] + wins[0, 0, 0, 2])).item() == pytest.approx(0.7311, abs=0.007)
