"""Stochastic play reaches the exact maximin policy, and is wrong where the game is another."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.testbed import Data, Played, Steps, play, solve
from safetyvalve.testbed.experiments.maximin import DISTANCE, distance
from tests.testbed.test_oracle import ONE, tensor, two_action_wins, wins_of

HOW = Steps(steps=1200, batch=128, hold=120)


def game_b(oracle: dict[str, Any]) -> tuple[Data, Tensor, Tensor, float, float]:
    """maximin_B in a box that its solution is inside of, so that the box changes nothing."""
    case = oracle["maximin_B"]["input"]
    data = Data(tensor([case["d0"]]), tensor([case["ref"]]), wins_of(case["pairs"], 2, 3), (-2.0, 2.0))
    exact = tensor([oracle["maximin_B"]["output"]["pi"]])
    return data, tensor([case["base"]]), exact, case["beta"], case["eta"]


def far(played: Played, exact: Tensor, data: Data) -> float:
    return float(distance(played.policy, exact, data.d0).max())


def test_it_reaches_the_oracle(oracle: dict[str, Any]) -> None:
    """maximin_B, whose policy and reward were computed elsewhere with 40 digits."""
    data, base, exact, beta, eta = game_b(oracle)
    played = play(data, base, beta=beta, eta=eta, how=HOW, seed=0)
    assert far(played, exact, data) <= DISTANCE
    reward = played.reward - played.reward.mean(-1, keepdim=True)
    assert (reward[0] - tensor(oracle["maximin_B"]["output"]["r"])).abs().max() < 0.05
    # Far enough from the reference, from the baseline and from the game without an adversary to mean something.
    assert float(distance(data.ref, exact, data.d0)) > 5 * DISTANCE
    without = solve(data.wins, data.ref, bounds=data.bounds, beta=beta).policy
    assert float(distance(without, exact, data.d0)) > 5 * DISTANCE


def test_without_the_adversary_it_reaches_plain_rlhf(oracle: dict[str, Any]) -> None:
    """maximin_A at eta 0: the reward's difference and the policy have closed forms."""
    case, expected = oracle["maximin_A"]["input"], oracle["maximin_A"]["output"]["dpo_limit_eta0"]
    ref = tensor([[[case["ref0"], 1 - case["ref0"]]]])
    data = Data(ONE, ref, two_action_wins(case["n01"], case["n10"]), (0.0, 4.0))
    played = play(data, ref, beta=case["beta"], eta=0.0, how=HOW._replace(steps=1000), seed=1)
    assert float(played.policy[0, 0, 0]) == pytest.approx(expected["pi0"], abs=DISTANCE)
    assert float(played.reward[0, 0, 0] - played.reward[0, 0, 1]) == pytest.approx(expected["D"], abs=0.1)


def test_the_seed_decides(oracle: dict[str, Any]) -> None:
    data, base, _, beta, eta = game_b(oracle)
    short = HOW._replace(steps=20)
    one, again, other = (play(data, base, beta=beta, eta=eta, how=short, seed=s).policy for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_refusals(oracle: dict[str, Any]) -> None:
    data, base, _, beta, eta = game_b(oracle)
    with pytest.raises(UsageError, match="beta is 0"):
        play(data, base, beta=0.0, eta=eta, seed=0)
    with pytest.raises(UsageError, match="eta is nan"):
        play(data, base, beta=beta, eta=math.nan, seed=0)
    with pytest.raises(UsageError, match="at least one comparison"):
        play(data._replace(wins=torch.zeros_like(data.wins)), base, beta=beta, eta=eta, seed=0)
