"""What the reward model reads: comparisons and the policy's answers, written by its own tokenizer.

The two models may have different tokenizers, so texts pass between them and never ids. An answer that was cut at the
length limit is read as text like any other, with an end token after it: so were the responses that the reward was
trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from safetyvalve.data import PreferenceExample, TokenizedExample, tokenize_answers, tokenize_example
from safetyvalve.errors import DataError
from safetyvalve.generation import Sample
from safetyvalve.rewards import RewardModel
from safetyvalve.trees import Tree

__all__ = ["Draws", "Places", "Reader", "Written", "places_of"]


class Draws(NamedTuple):
    """Answers of the policy to one prompt of a step."""

    example_id: str
    prompt_ids: tuple[int, ...]
    samples: tuple[Sample, ...]

    @property
    def tree(self) -> Tree:
        """All answers behind one prompt, by the policy's tokens."""
        return Tree(self.prompt_ids, tuple(s.token_ids for s in self.samples))


class Written(NamedTuple):
    """An example with the policy's answers to it as one tree of the reward's tokens: compared responses first."""

    example: TokenizedExample
    samples: tuple[tuple[int, ...], ...]
    """Empty where the reward cannot read them."""

    @property
    def tree(self) -> Tree:
        return Tree(self.example.prompt_ids, (*self.example.response_ids, *self.samples))


class Reader:
    """Writes examples and answers in the reward's tokens.

    Args:
        reward: gives tokenizer and context.
        examples: all that are trained on or measured, by whose ids they are asked for.

    Raises:
        DataError: an example that this reward model cannot read.
    """

    def __init__(self, reward: RewardModel, examples: Iterable[PreferenceExample]) -> None:
        self.tokenizer, self.limit = reward.tokenizer, reward.max_length
        self._examples = {e.id: (e, tokenize_example(e, self.tokenizer)) for e in examples}
        for example, tokens in self._examples.values():
            longest = len(tokens.prompt_ids) + max(map(len, tokens.response_ids))
            if self.limit is not None and longest > self.limit:
                where = example.place
                raise DataError(
                    f"has {longest} tokens for the reward model, whose context is {self.limit}. Lower --max-length, or "
                    "use a reward model with a longer context.",
                    file=where.file if where else None,
                    row=where.row if where else None,
                )

    def example(self, example_id: str) -> TokenizedExample:
        """An example in the reward's tokens."""
        return self._examples[example_id][1]

    def write(self, draws: Draws) -> Written:
        """With no samples where one of them has a special token as text, or is too long."""
        example, tokens = self._examples[draws.example_id]
        try:
            _, answers = tokenize_answers(example.prompt, [s.text for s in draws.samples], self.tokenizer)
        except DataError:
            return Written(tokens, ())
        longest = len(tokens.prompt_ids) + max(map(len, answers))
        return Written(tokens, () if self.limit is not None and longest > self.limit else answers)


class Places(NamedTuple):
    """Where a micro-batch's responses are, numbered over its trees in order."""

    winner: Tensor
    """int64 [pair]."""
    loser: Tensor
    weight: Tensor
    """[pair], of the data."""
    prompt: Tensor
    """int64 [pair]: which of the prompts below the comparison is about; -1 where its samples cannot be read."""
    samples: Tensor
    """int64 [prompt, sample]."""

    def baseline(self, rewards: Tensor) -> Tensor:
        """[prompt]: mean reward of the chosen responses, by the comparisons' weights."""
        kept = self.prompt >= 0
        owner, weight = self.prompt[kept], self.weight[kept].to(rewards)
        total = rewards.new_zeros(len(self.samples)).index_add(0, owner, weight * rewards[self.winner[kept]])
        mass: Tensor = rewards.new_zeros(len(self.samples)).index_add(0, owner, weight)
        return total / mass


def places_of(written: Sequence[Written], n: int, device: torch.device) -> Places:
    """Of a micro-batch with ``n`` samples a prompt."""
    winner: list[int] = []
    loser: list[int] = []
    weight: list[float] = []
    prompt: list[int] = []
    samples: list[list[int]] = []
    offset = 0
    for one in written:
        for c in one.example.comparisons:
            winner.append(offset + c.winner)
            loser.append(offset + c.loser)
            weight.append(c.weight)
            prompt.append(len(samples) if one.samples else -1)
        offset += len(one.example.response_ids)
        if one.samples:
            samples.append(list(range(offset, offset + n)))
        offset += len(one.samples)
    return Places(
        torch.tensor(winner, device=device),
        torch.tensor(loser, device=device),
        torch.tensor(weight, device=device),
        torch.tensor(prompt, device=device),
        torch.tensor(samples, dtype=torch.int64, device=device).reshape(-1, n),
    )
