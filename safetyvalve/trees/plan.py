"""A packed row of prefix trees: which token stands where, what it may attend to, what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from safetyvalve.errors import UsageError

__all__ = ["Engine", "PackedRow", "PositionRule", "Segment", "Tree", "causal", "pack_row"]

Engine = Literal["tree", "padded"]
"""``tree`` computes each prompt once; ``padded`` is the model's own forward, one row a response."""

PositionRule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""``(batch, head, query position, key position) -> bool``, broadcast: a layer's rule for one sequence on its own, in
the form of a mask function of transformers. It says what is causal, within a window or in the same chunk."""


def causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A token sees itself and what is before it."""
    return key <= query


class Tree(NamedTuple):
    """A prompt and its responses, as token ids; the prompt and every response have at least one token."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[tuple[int, ...], ...]

    @property
    def n_tokens(self) -> int:
        """Tokens computed for this tree: the prompt once and every response."""
        return len(self.prompt_ids) + sum(map(len, self.response_ids))


@dataclass(frozen=True, eq=False)
class Segment:
    """The place of one tree in the row and its attention rule."""

    start: int
    stop: int
    positions: Tensor
    """int64 [segment token]: place in the tree; restarts after the prompt for every response."""
    branch: Tensor
    """int64 [segment token]: 0 for the prompt, k for the k-th response counted from 1."""

    def allowed(self, rule: PositionRule = causal, first: int = 0, last: int | None = None) -> Tensor:
        """bool [query, key]: a token sees its prompt and its own response, as far as ``rule`` lets it.

        Args:
            rule: of the layer.
            first, last: which of the segment's tokens are the queries; all, unless given.
        """
        mine = self.branch[first:last, None]
        own = (self.branch[None, :] == 0) | (self.branch[None, :] == mine)
        zero = self.positions.new_zeros(())
        # The rule counts positions, not packed indices: the two differ from the second response on.
        return own & rule(zero, zero, self.positions[first:last, None], self.positions[None, :])


@dataclass(frozen=True, eq=False)
class PackedRow:
    """Several trees in one row without padding. All tensors are int64 on one device.

    ``predictor[t]`` is the index in the row whose hidden state predicts ``target[t]``, the t-th response token;
    ``owner[t]`` numbers the response it belongs to, over all trees in order. ``last[k]`` is the index in the row of the
    last token of response ``k``.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: tuple[Segment, ...]
    predictor: Tensor
    target: Tensor
    owner: Tensor
    last: Tensor
    n_responses: int


def pack_row(trees: Sequence[Tree], device: torch.device | str = "cpu") -> PackedRow:
    """Lay trees one after another: prompt, first response, second response, ..., next prompt.

    Raises:
        UsageError: no trees, or a prompt or response without tokens.
    """
    if not trees:
        raise UsageError("there are no trees to pack; pass at least one prompt with a response.")
    ids: list[int] = []
    predictor: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    last: list[int] = []
    segments: list[Segment] = []
    n_responses = 0
    for number, tree in enumerate(trees):
        _check(tree, number)
        start, n_prompt = len(ids), len(tree.prompt_ids)
        ids.extend(tree.prompt_ids)
        positions = [torch.arange(n_prompt)]
        branch = [torch.zeros(n_prompt, dtype=torch.int64)]
        for k, response in enumerate(tree.response_ids, start=1):
            first = len(ids)
            # The prompt's last token predicts the first token of every response.
            predictor.append(start + n_prompt - 1)
            predictor.extend(range(first, first + len(response) - 1))
            target.extend(response)
            owner.extend([n_responses] * len(response))
            ids.extend(response)
            last.append(len(ids) - 1)
            positions.append(torch.arange(n_prompt, n_prompt + len(response)))
            branch.append(torch.full((len(response),), k))
            n_responses += 1
        segments.append(Segment(start, len(ids), torch.cat(positions).to(device), torch.cat(branch).to(device)))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return PackedRow(
        input_ids=tensor(ids),
        position_ids=torch.cat([s.positions for s in segments]),
        segments=tuple(segments),
        predictor=tensor(predictor),
        target=tensor(target),
        owner=tensor(owner),
        last=tensor(last),
        n_responses=n_responses,
    )


def _check(tree: Tree, number: int) -> None:
    if not tree.prompt_ids or not tree.response_ids or not all(tree.response_ids):
        raise UsageError(
            f"tree {number} has a prompt of {len(tree.prompt_ids)} tokens and responses of "
            f"{[len(r) for r in tree.response_ids]}; each needs at least one token, and a tree at least one response."
        )
