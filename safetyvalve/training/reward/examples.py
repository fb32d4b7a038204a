"""Comparisons as reward training takes them: each member's weight for each example, and pairs of a micro-batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from safetyvalve.data import PreferenceExample, TokenizedExample, opening_turn
from safetyvalve.objectives import bradley_terry_loss
from safetyvalve.training.reward.settings import Ensemble, Learning
from safetyvalve.trees import Tree

__all__ = ["ComparedPairs", "RewardExample", "member_weights", "pair_loss", "pairs_of", "weighted_examples"]


@dataclass(frozen=True)
class RewardExample:
    """Tokens of an example, with the weight that each member gives it."""

    tokens: TokenizedExample
    weights: tuple[float, ...]

    @property
    def tree(self) -> Tree:
        return Tree(self.tokens.prompt_ids, self.tokens.response_ids)


def weighted_examples(
    examples: Sequence[tuple[PreferenceExample, TokenizedExample]], ensemble: Ensemble, *, seed: int
) -> list[RewardExample]:
    """Examples with the members' weights: of the bootstrap where it makes the members differ, else 1."""
    if ensemble.members == 1 or ensemble.diversity != "bootstrap":
        return [RewardExample(tokens, (1.0,) * ensemble.members) for _, tokens in examples]
    return [RewardExample(t, member_weights(opening_turn(e), ensemble.members, seed=seed)) for e, t in examples]


def member_weights(cluster: str, members: int, *, seed: int) -> tuple[float, ...]:
    """Poisson(1) counts: how often each member's resample has this cluster.

    The bootstrap of a large sample draws each unit about Poisson(1) times, independently (Oza and Russell, "Online
    Bagging and Boosting", 2001). Conversations that begin alike are one unit, as in the split. The counts depend on the
    text and the seed alone, so that neither the order of the data nor a resumed run changes them.
    """
    digest = hashlib.sha256(f"{seed}\0bootstrap\0{cluster}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return tuple(float(n) for n in generator.poisson(1.0, size=members))


class ComparedPairs(NamedTuple):
    """The comparisons of a micro-batch; responses are numbered over its trees in order."""

    winner: Tensor
    """int64 [pair]."""
    loser: Tensor
    weight: Tensor
    """[pair], of the data."""
    member_weight: Tensor
    """[member, pair], of the bootstrap."""


def pairs_of(examples: Sequence[RewardExample], device: torch.device) -> ComparedPairs:
    winner: list[int] = []
    loser: list[int] = []
    weight: list[float] = []
    member: list[tuple[float, ...]] = []
    offset = 0
    for example in examples:
        for comparison in example.tokens.comparisons:
            winner.append(offset + comparison.winner)
            loser.append(offset + comparison.loser)
            weight.append(comparison.weight)
            member.append(example.weights)
        offset += len(example.tokens.response_ids)
    return ComparedPairs(
        torch.tensor(winner, device=device),
        torch.tensor(loser, device=device),
        torch.tensor(weight, device=device),
        torch.tensor(member, device=device).T,
    )


def pair_loss(rewards: Tensor, pairs: ComparedPairs, learning: Learning) -> Tensor:
    """[member, pair]: the loss of each comparison, not weighted.

    Args:
        rewards: [member, response].
        pairs: of the same micro-batch.
        learning: margin, which a comparison's weight multiplies, and centering.
    """
    margin = (learning.margin * pairs.weight).expand(len(rewards), -1) if learning.margin else None
    return bradley_terry_loss(
        rewards[:, pairs.winner], rewards[:, pairs.loser], margin=margin, centering=learning.centering
    )
