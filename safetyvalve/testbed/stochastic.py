"""Algorithm 1 by stochastic updates, as a trainer plays it: minibatches of comparisons, samples of the policy.

Nothing here knows the exact solution or an expectation. A step draws comparisons from the data, prompts to serve,
answers of the policy and of the baseline, and makes one step down each shipped loss: :func:`adversarial_reward_loss`
for the reward, then :func:`rloo_loss` for the policy, on the same answers.

The game is convex in the reward and, with its KL, strictly concave in the policy. Step sizes are constant at first and
then fall as 1/sqrt(t); the policy's are the larger ones, so that it keeps up with the reward that it answers.
What is reported is the average over the second half of the steps, since the last iterates go on wandering with the
samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives import adversarial_reward_loss, rloo_loss
from safetyvalve.objectives.preference import check_positive
from safetyvalve.objectives.regularizers import check_eta
from safetyvalve.testbed.methods import Data

__all__ = ["Played", "Steps", "play"]


class Steps(NamedTuple):
    """How the game is played.

    steps: updates of each player.
    batch: comparisons, and prompts to serve, a step.
    samples: answers a prompt, at least 2.
    reward_rate: the reward's step size at first; None takes one below the inverse of the curvature that its loss can
        have once the policy has answered, ``1 / (max d0 (1/2 + eta / (2 beta)))``.
    policy_rate: the policy's, of its logits; None takes ``3 / max d0``.
    hold: steps after which they fall, as sqrt(hold / t).
    """

    steps: int = 8000
    batch: int = 256
    samples: int = 4
    reward_rate: float | None = None
    policy_rate: float | None = None
    hold: int = 400


class Played(NamedTuple):
    """Where the players came.

    reward: averaged over the second half of the steps.
    policy: averaged over the same, as a table of probabilities: a mixture of the policies played.
    last: the policy of the last step.
    """

    reward: Float[Tensor, "set prompt action"]
    policy: Float[Tensor, "set prompt action"]
    last: Float[Tensor, "set prompt action"]


class _Draw:
    """Draws of every data set at once, as flat cells (prompt * actions + action)."""

    def __init__(self, data: Data, base: Tensor, how: Steps, seed: int) -> None:
        self.sets, self.prompts, self.actions = data.ref.shape
        self.data, self.base, self.how = data, base, how
        self.wins = data.wins.reshape(self.sets, -1)
        self.generator = torch.Generator().manual_seed(seed)

    def comparisons(self) -> tuple[Int[Tensor, "set batch"], Int[Tensor, "set batch"]]:
        """Cells of winners and losers."""
        drawn = torch.multinomial(self.wins, self.how.batch, replacement=True, generator=self.generator)
        winner, loser = drawn // self.actions, drawn % self.actions
        return winner, winner // self.actions * self.actions + loser

    def prompts_served(self) -> Int[Tensor, "set batch"]:
        return torch.multinomial(self.data.d0, self.how.batch, replacement=True, generator=self.generator)

    def answers(self, law: Tensor, prompts: Tensor, n: int) -> Int[Tensor, "set batch sample"]:
        """Cells of ``n`` answers to each prompt from a policy."""
        rows = law.gather(1, prompts[..., None].expand(-1, -1, self.actions))
        drawn = torch.multinomial(rows.flatten(0, 1), n, replacement=True, generator=self.generator)
        return prompts[..., None] * self.actions + drawn.view(*prompts.shape, n)


def play(
    data: Data,
    base: Float[Tensor, "set prompt action"],
    *,
    beta: float,
    eta: float,
    how: Steps | None = None,
    seed: int,
) -> Played:
    """Play the game on every data set.

    Args:
        data: comparisons, serving law, reference and box; tabular.
        base: the baseline.
        beta: strength of the KL, above 0.
        eta: weight of the adversary; 0 is plain RLHF, the reward fitted to the comparisons alone.
        how: numbers of steps and samples.
        seed: of every draw.

    Raises:
        UsageError: a coefficient out of range, a linear class, or a data set without comparisons.
    """
    check_positive("beta", beta)
    check_eta(eta)
    how = how or Steps()
    if data.features is not None or not bool((data.wins.sum((1, 2, 3)) > 0).all()):
        raise UsageError("stochastic play takes tabular rewards and data sets with at least one comparison each.")
    draw = _Draw(data, base, how, seed)
    low, high = data.bounds
    most = float(data.d0.max())
    reward_rate = how.reward_rate or 1 / (most * (0.5 + eta / (2 * beta)))
    policy_rate = how.policy_rate or 3 / most
    log_ref = data.ref.log()
    reward = torch.full_like(data.ref, (low + high) / 2).requires_grad_()
    logits = log_ref.clone().requires_grad_()
    mean_reward, mean_policy, counted = torch.zeros_like(reward), torch.zeros_like(logits), 0
    for step in range(how.steps):
        rate = min(1.0, how.hold / (step + 1)) ** 0.5
        policy = logits.detach().softmax(-1)
        prompts = draw.prompts_served()
        answers = draw.answers(policy, prompts, how.samples)
        loss = _reward_loss(reward, draw, answers, draw.answers(base, prompts, 1)[..., 0], eta)
        (slope,) = torch.autograd.grad(loss, reward)
        with torch.no_grad():
            reward -= reward_rate * rate * slope
            reward.clamp_(low, high)
        (slope,) = torch.autograd.grad(_policy_loss(logits, log_ref, reward.detach(), answers, beta), logits)
        with torch.no_grad():
            logits -= policy_rate * rate * slope
        if step >= how.steps // 2:
            mean_reward, mean_policy, counted = mean_reward + reward.detach(), mean_policy + policy, counted + 1
    return Played(mean_reward / counted, mean_policy / counted, logits.detach().softmax(-1))


def _reward_loss(reward: Tensor, draw: _Draw, answers: Tensor, baseline: Tensor, eta: float) -> Tensor:
    """Summed over data sets, a mean over each one's batch."""
    cells = reward.flatten(1)
    winner, loser = draw.comparisons()
    batch = winner.shape[1]
    loss = adversarial_reward_loss(
        cells.gather(1, winner).flatten(),
        cells.gather(1, loser).flatten(),
        cells.gather(1, answers.flatten(1)).view(-1, answers.shape[-1]),
        cells.gather(1, baseline).flatten(),
        eta=eta,
    )
    return loss.sum() / batch


def _policy_loss(logits: Tensor, log_ref: Tensor, reward: Tensor, answers: Tensor, beta: float) -> Tensor:
    """Summed over data sets, a mean over each one's prompts and samples."""

    def of_answers(table: Tensor) -> Tensor:
        return table.flatten(1).gather(1, answers.flatten(1)).view(-1, answers.shape[-1])

    loss = rloo_loss(of_answers(logits.log_softmax(-1)), of_answers(log_ref), of_answers(reward), beta=beta)
    return loss.sum() / answers[0].numel()
