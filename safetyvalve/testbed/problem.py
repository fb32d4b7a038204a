"""A contextual bandit with known true reward: who is asked what, who is compared with whom, what each is worth.

Everything is batched over data sets, so that five hundred of them are solved at once: ``set`` is the leading
dimension of every tensor, and a single problem is the case of one set. All tensors are float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError

__all__ = [
    "Problem",
    "as_policy",
    "bradley_terry",
    "chosen_baseline",
    "expected_kl",
    "expected_reward",
    "independent_pairs",
    "sample_wins",
]


class Problem(NamedTuple):
    """``set`` bandits of the same size.

    d0: law of the prompts to serve, rows sum to 1.
    ref: reference policy, rows sum to 1.
    reward: true reward r*, in reward units (nats of preference).
    pair_law: probability that a comparison is about prompt x and the unordered pair {a, b}; it stands in the
        entries a < b (upper triangle, the rest is zero) and sums to 1 over a set.
    win: probability that a beats b. Bradley-Terry in the paper, anything with ``win + win^T = 1`` here.
    """

    d0: Float[Tensor, "set prompt"]
    ref: Float[Tensor, "set prompt action"]
    reward: Float[Tensor, "set prompt action"]
    pair_law: Float[Tensor, "set prompt action action"]
    win: Float[Tensor, "set prompt action action"]


def as_policy(values: object, name: str) -> Tensor:
    """A probability table as float64, checked: finite, not negative, rows that sum to 1.

    Raises:
        UsageError: it is not such a table.
    """
    table = torch.as_tensor(values, dtype=torch.float64)
    if not bool(torch.isfinite(table).all()) or bool((table < 0).any()):
        raise UsageError(f"{name} has a negative or non-finite entry; probabilities must lie in [0, 1].")
    worst = (table.sum(-1) - 1).abs().max().item()
    if worst > 1e-9:
        raise UsageError(f"{name} has a row that sums to 1 {worst:+.2g}; rows must sum to 1. Normalise them.")
    return table


def bradley_terry(reward: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action action"]:
    """P(a beats b) = sigmoid(r_a - r_b). Source: arXiv 2405.16436, eq. (2.1)."""
    return torch.sigmoid(reward[..., :, None] - reward[..., None, :])


def independent_pairs(
    prompts: Float[Tensor, "set prompt"], law: Float[Tensor, "set prompt action"]
) -> Float[Tensor, "set prompt action action"]:
    """Pair law of two actions drawn from ``law`` until they differ, with prompts drawn from ``prompts``."""
    both = torch.triu(law[..., :, None] * law[..., None, :], diagonal=1)
    return prompts[..., None, None] * both / both.sum((-1, -2), keepdim=True)


def sample_wins(problem: Problem, n: int, rng: np.random.Generator) -> Float[Tensor, "set prompt action action"]:
    """One data set of ``n`` comparisons a bandit: entry [s, x, a, b] counts how often a beat b.

    Counts are drawn directly (multinomial over pairs, binomial over outcomes), so that the cost does not grow
    with ``n``.

    Raises:
        UsageError: n is below 1.
    """
    if n < 1:
        raise UsageError(f"a data set of {n} comparisons was asked for; it must have at least 1.")
    shape = tuple(problem.pair_law.shape)
    law = problem.pair_law.reshape(shape[0], -1).numpy()
    asked = rng.multinomial(n, law / law.sum(-1, keepdims=True)).reshape(shape)
    upper = rng.binomial(asked, problem.win.clamp(0, 1).numpy())
    wins = upper + np.swapaxes(asked - upper, -1, -2)
    return torch.as_tensor(wins, dtype=torch.float64)


def chosen_baseline(
    wins: Float[Tensor, "set prompt action action"], ref: Float[Tensor, "set prompt action"]
) -> Float[Tensor, "set prompt action"]:
    """The baseline of the paper's experiments: the law of the chosen responses in the data, prompt by prompt.

    A prompt without data has no chosen response; it gets the reference.
    """
    won = wins.sum(-1)
    total = won.sum(-1, keepdim=True)
    return torch.where(total > 0, won / total.clamp_min(1), ref)


def expected_reward(problem: Problem, policy: Float[Tensor, "set prompt action"]) -> Float[Tensor, "set"]:
    """True value of a policy on the prompts to serve, in reward units."""
    return (problem.d0 * (policy * problem.reward).sum(-1)).sum(-1)


def expected_kl(
    d0: Float[Tensor, "set prompt"],
    log_policy: Float[Tensor, "set prompt action"],
    ref: Float[Tensor, "set prompt action"],
) -> Float[Tensor, "set"]:
    """E_{x ~ d0} KL(policy || ref), in nats. Takes log-probabilities: at small beta they are below -1e4."""
    policy = log_policy.exp()
    terms = torch.where(policy > 0, policy * (log_policy - ref.clamp_min(1e-300).log()), torch.zeros_like(policy))
    return (d0 * terms.sum(-1)).sum(-1)
