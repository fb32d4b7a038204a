"""The explicit adversary and the policy gradient: oracle, limits, gradients, refusals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives import (
    adversarial_gap,
    adversarial_reward_loss,
    dpo_loss,
    leave_one_out,
    rloo_loss,
)
from safetyvalve.objectives.preference import bradley_terry_nll


def double(*values: Any) -> Tensor:
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)


def table(values: Any) -> Tensor:
    return double([[float(v) for v in row] for row in values])


CHOSEN, REJECTED = double([0.3, -1.0, 2.0]), double([0.1, 0.4, -0.5])
SAMPLES, BASELINE = double([[0.2, 1.0], [-0.3, 0.7], [3.0, 2.5]]), double([0.0, 0.1, 1.5])


class Game(dict[str, Any]):
    """An exact maximin problem of tests/oracle.json: tables, and what is worth what."""

    @classmethod
    def of(cls, case: dict[str, Any]) -> Game:
        data = case["input"]
        d0 = double([float(v) for v in data["d0"]])
        return cls(
            d0=d0,
            ref=table(data["ref"]),
            base=table(data["base"]),
            pairs=tuple(torch.tensor(column) for column in zip(*data["pairs"], strict=True)),
            beta=data["beta"],
            eta=data["eta"],
        )

    def reward_objective(self, reward: Tensor, policy: Tensor) -> Tensor:
        """L_D + eta * gap, the expectations over policy and baseline taken exactly."""
        x, won, lost = self["pairs"]
        preference = bradley_terry_nll(reward[x, won] - reward[x, lost]).mean()
        gap = adversarial_gap((policy * reward).sum(-1, keepdim=True), (self["base"] * reward).sum(-1))
        return preference + self["eta"] * (self["d0"] * gap).sum()


@pytest.fixture
def game(oracle: dict[str, Any]) -> Game:
    return Game.of(oracle["maximin_B"])


class TestOracle:
    """maximin_B: its reward and policy are where both players stand still, and the value is the game's."""

    def test_value(self, oracle: dict[str, Any], game: Game) -> None:
        expected = oracle["maximin_B"]["output"]
        reward, policy = double(expected["r"]), double(expected["pi"])
        x, won, lost = game["pairs"]
        assert bradley_terry_nll(reward[x, won] - reward[x, lost]).mean().item() == pytest.approx(expected["LD"])
        kl = (game["d0"] * (policy * (policy / game["ref"]).log()).sum(-1)).sum()
        assert kl.item() == pytest.approx(expected["E_KL"])
        value = game.reward_objective(reward, policy) - game["eta"] * game["beta"] * kl
        assert value.item() == pytest.approx(expected["value"], rel=1e-12)

    def test_the_reward_stands_still(self, oracle: dict[str, Any], game: Game) -> None:
        expected = oracle["maximin_B"]["output"]
        reward = double(expected["r"]).requires_grad_()
        game.reward_objective(reward, double(expected["pi"])).backward()
        assert reward.grad is not None
        assert reward.grad.abs().max() < 1e-15
        # The other sign is another game, in which this point is none.
        reward.grad = None
        Game(game, eta=-game["eta"]).reward_objective(reward, double(expected["pi"])).backward()
        assert reward.grad.abs().max() > 1e-3

    def test_the_policy_stands_still(self, oracle: dict[str, Any], game: Game) -> None:
        expected = oracle["maximin_B"]["output"]
        for x in range(2):
            gradient = exact_gradient(
                double(expected["pi"][x]).log(), game["ref"][x].log(), double(expected["r"][x]), game["beta"]
            )
            assert gradient.abs().max() < 1e-15

    def test_a_minimum_over_the_box(self, oracle: dict[str, Any]) -> None:
        """maximin_C: the gradient points out of the box where the reward is at its faces."""
        case, expected = oracle["maximin_C_box"]["input"], oracle["maximin_C_box"]["output"]
        pairs = [[0, 0, 1]] * case["n01"] + [[0, 1, 0]] * case["n10"]
        game = Game.of({"input": {**case, "d0": [1.0], "ref": [case["ref"]], "base": [case["base"]], "pairs": pairs}})
        reward = double([expected["r"]]).requires_grad_()
        game.reward_objective(reward, double([expected["pi"]])).backward()
        assert reward.grad is not None
        at_r0, inside, at_r2 = reward.grad[0].tolist()
        assert at_r0 == pytest.approx(expected["grad_at_r0"], rel=1e-6)
        assert at_r2 == pytest.approx(expected["grad_at_r2"], rel=1e-6)
        assert abs(inside) < 1e-12

    def test_a_closed_form(self, oracle: dict[str, Any]) -> None:
        """maximin_A: two actions, one prompt."""
        case, expected = oracle["maximin_A"]["input"], oracle["maximin_A"]["output"]
        pairs = [[0, 0, 1]] * case["n01"] + [[0, 1, 0]] * case["n10"]
        both = {"ref": [[case["ref0"], 1 - case["ref0"]]], "base": [[case["base0"], 1 - case["base0"]]]}
        game = Game.of({"input": {**case, **both, "d0": [1.0], "pairs": pairs}})
        pi = double([expected["pi0"], 1 - expected["pi0"]])
        reward = double([[expected["reward_gap_D"], 0.0]]).requires_grad_()
        value = game.reward_objective(reward, pi[None])
        value.backward()
        kl = (pi * (pi / game["ref"][0]).log()).sum()
        assert (value - case["eta"] * case["beta"] * kl).item() == pytest.approx(expected["value"], rel=1e-12)
        assert reward.grad is not None
        assert reward.grad.abs().max() < 1e-12


class TestAdversarialRewardLoss:
    def test_by_hand(self) -> None:
        loss = adversarial_reward_loss(CHOSEN[:1], REJECTED[:1], SAMPLES[:1], BASELINE[:1], eta=0.5)
        assert loss.item() == pytest.approx(math.log1p(math.exp(-0.2)) + 0.5 * (0.6 - 0.0))

    def test_the_chosen_are_the_baseline_by_default(self) -> None:
        left_out = adversarial_reward_loss(CHOSEN, REJECTED, SAMPLES, eta=0.5)
        assert torch.equal(left_out, adversarial_reward_loss(CHOSEN, REJECTED, SAMPLES, CHOSEN, eta=0.5))

    def test_without_eta_it_is_bradley_terry(self) -> None:
        """The value, and the gradient on every argument."""
        inputs = [t.clone().requires_grad_() for t in (CHOSEN, REJECTED, SAMPLES, BASELINE)]
        loss = adversarial_reward_loss(*inputs, eta=0.0)
        plain = bradley_terry_nll(inputs[0] - inputs[1])
        assert torch.equal(loss, plain)
        ours = torch.autograd.grad(loss.sum(), inputs)
        theirs = torch.autograd.grad(plain.sum(), inputs[:2])
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
        assert not any(g.any() for g in ours[2:])

    def test_bradley_terry_is_dpo_of_implicit_rewards(self) -> None:
        zero = torch.zeros_like(CHOSEN)
        for smoothing in (0.0, 0.2):
            implicit = dpo_loss(CHOSEN, REJECTED, zero, zero, beta=1.0, label_smoothing=smoothing)
            assert torch.equal(bradley_terry_nll(CHOSEN - REJECTED, label_smoothing=smoothing), implicit)

    def test_gradcheck(self) -> None:
        inputs = [t.clone().requires_grad_() for t in (CHOSEN, REJECTED, SAMPLES, BASELINE)]
        assert torch.autograd.gradcheck(lambda *a: adversarial_reward_loss(*a, eta=0.7), inputs)
        assert torch.autograd.gradcheck(lambda *a: adversarial_reward_loss(*a, eta=0.7, label_smoothing=0.1), inputs)

    def test_a_constant_of_the_prompt_changes_nothing(self) -> None:
        shift = double([5.0, -3.0, 100.0])
        moved = adversarial_reward_loss(
            CHOSEN + shift, REJECTED + shift, SAMPLES + shift[:, None], BASELINE + shift, eta=0.7
        )
        torch.testing.assert_close(moved, adversarial_reward_loss(CHOSEN, REJECTED, SAMPLES, BASELINE, eta=0.7))

    def test_the_box(self) -> None:
        """A difference beyond the range is worth the range, and nobody moves it further; within it nothing changes."""
        samples = double([[9.0, 1.0], [-9.0, 0.5]]).requires_grad_()
        gap = adversarial_gap(samples, double([0.0, 0.0]), reward_range=4.0)
        torch.testing.assert_close(gap, double([2.5, -1.75]))
        gap.sum().backward()
        torch.testing.assert_close(samples.grad, double([[0.0, 0.5], [0.0, 0.5]]))
        assert torch.equal(adversarial_gap(SAMPLES, BASELINE, reward_range=50.0), adversarial_gap(SAMPLES, BASELINE))

    def test_the_adversary_takes_from_the_policy(self) -> None:
        """A step down the gradient lowers the rewards of samples and raises those of the baseline."""
        samples, baseline = SAMPLES.clone().requires_grad_(), BASELINE.clone().requires_grad_()
        adversarial_gap(samples, baseline).sum().backward()
        assert samples.grad is not None
        assert baseline.grad is not None
        assert bool((samples.grad > 0).all())
        assert bool((baseline.grad < 0).all())


def exact_gradient(logits: Tensor, ref_logps: Tensor, rewards: Tensor, beta: float, n: int = 2) -> Tensor:
    """Expected gradient of the mean RLOO loss on the logits: all n-tuples of samples, by their probability."""
    logits = logits.clone().requires_grad_()
    logps = logits.log_softmax(-1)
    total = torch.zeros((), dtype=torch.float64)
    for drawn in itertools.product(range(len(logits)), repeat=n):
        index = torch.tensor(drawn)
        loss = rloo_loss(logps[index][None], ref_logps[index][None], rewards[index][None], beta=beta)
        total = total + logps[index].detach().sum().exp() * loss.mean()
    (gradient,) = torch.autograd.grad(total, logits)
    return gradient


class TestRloo:
    LOGITS, REF = double([0.3, -0.7, 1.1, 0.0]), double([0.1, 0.2, 0.3, 0.4]).log()
    REWARDS = double([1.0, -2.0, 0.5, 3.0])

    @pytest.mark.parametrize("n", [2, 3])
    def test_unbiased(self, n: int) -> None:
        """Over all samples it is the gradient of -(E[r] - beta KL), exactly."""
        logits = self.LOGITS.clone().requires_grad_()
        policy = logits.softmax(-1)
        objective = (policy * (self.REWARDS - 0.3 * (logits.log_softmax(-1) - self.REF))).sum()
        (truth,) = torch.autograd.grad(-objective, logits)
        torch.testing.assert_close(exact_gradient(self.LOGITS, self.REF, self.REWARDS, 0.3, n), truth)

    def test_by_hand(self) -> None:
        logps, ref, rewards = double([[-1.0, -2.0]]), double([[-1.5, -1.0]]), double([[2.0, 1.0]])
        # r - beta log-ratio: 2 - 0.05, 1 + 0.1; differences 0.85 and -0.85.
        loss = rloo_loss(logps, ref, rewards, beta=0.1)
        torch.testing.assert_close(loss, double([[0.85, -1.7]]))

    def test_only_the_policy_learns_from_it(self) -> None:
        """The gradient is minus the advantage: rewards and references get none, nor does the KL's own log-ratio."""
        inputs = [t.clone().requires_grad_() for t in (double([[-1.0, -2.0, -4.0]]), double([[-1.0, -1.0, -5.0]]))]
        rewards = double([[1.0, 2.0, 0.0]]).requires_grad_()
        rloo_loss(*inputs, rewards, beta=0.2).sum().backward()
        assert inputs[1].grad is None
        assert rewards.grad is None
        advantage = leave_one_out(rewards - 0.2 * (inputs[0] - inputs[1])).detach()
        torch.testing.assert_close(inputs[0].grad, -advantage)

    def test_equal_rewards_and_no_distance_give_nothing(self) -> None:
        logps = double([[-1.0, -2.0, -3.0]])
        assert not rloo_loss(logps, logps, torch.full_like(logps, 7.0), beta=0.5).any()

    def test_leave_one_out(self) -> None:
        rewards = double([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
        expected = double([[1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5], [-1.5, -1.5, 3.0]])
        torch.testing.assert_close(leave_one_out(rewards), expected)
        torch.testing.assert_close(leave_one_out(rewards + double([[9.0], [-4.0]])), expected)
        assert leave_one_out(rewards).sum(1).abs().max() < 1e-14


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: adversarial_reward_loss(CHOSEN, REJECTED, SAMPLES, eta=-0.1), "eta is -0.1"),
        (lambda: adversarial_reward_loss(CHOSEN, REJECTED, SAMPLES, eta=1.0, label_smoothing=0.5), "label_smoothing"),
        (lambda: bradley_terry_nll(CHOSEN, label_smoothing=-0.1), "label_smoothing is -0.1"),
        (lambda: adversarial_gap(SAMPLES[:, :0], BASELINE), "at least one sample"),
        (lambda: adversarial_gap(SAMPLES, BASELINE, reward_range=0.0), "reward_range is 0.0"),
        (lambda: leave_one_out(SAMPLES[:, :1]), "at least 2 samples"),
        (lambda: rloo_loss(SAMPLES, SAMPLES, SAMPLES, beta=0.0), "beta is 0.0"),
    ],
)
def test_refusals_name_the_value(call: Any, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: adversarial_gap(SAMPLES, BASELINE[:2]),
        lambda: adversarial_reward_loss(CHOSEN, REJECTED[:2], SAMPLES, eta=1.0),
        lambda: rloo_loss(SAMPLES, SAMPLES[:2], SAMPLES, beta=0.1),
    ],
)
def test_shapes_that_do_not_match_are_refused(call: Any) -> None:
    with pytest.raises((UsageError, TypeCheckError)):
        call()
