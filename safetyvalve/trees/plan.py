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


WORTH_SHARING = 8
"""Tokens that the prompts of a row must have in common to stand once; fewer cost more calls than they save work."""


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
    root: int = 0
    """Tokens at the beginning of the row that the prompt begins with, as those of other segments do."""

    def allowed(self, rule: PositionRule = causal, first: int = 0, last: int | None = None) -> Tensor:
        """bool [query, key]: a token sees its prompt and its own response, as far as ``rule`` lets it.

        The keys are the root's tokens and then the segment's.

        Args:
            rule: of the layer.
            first, last: which of the segment's tokens are the queries; all, unless given.
        """
        mine = self.branch[first:last, None]
        own = (self.branch[None, :] == 0) | (self.branch[None, :] == mine)
        places = self.positions
        if self.root:
            own = torch.cat([own.new_ones(len(own), self.root), own], dim=1)
            places = torch.cat([torch.arange(self.root, device=places.device), places])
        zero = places.new_zeros(())
        # The rule counts positions, not packed indices: the two differ from the second response on.
        return own & rule(zero, zero, self.positions[first:last, None], places[None, :])

    def seen(self, states: Tensor) -> Tensor:
        """[..., token of the row, width] -> [..., key, width]: what the segment's tokens may see, as in ``allowed``."""
        own = states[..., self.start : self.stop, :]
        return torch.cat([states[..., : self.root, :], own], dim=-2) if self.root else own


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
    longest: int
    """Tokens of the longest prompt with a response, whether or not the row has all of them."""


def pack_row(
    trees: Sequence[Tree], device: torch.device | str = "cpu", *, shared: bool = False, ends: bool = True
) -> PackedRow:
    """Lay trees one after another: prompt, first response, second response, ..., next prompt.

    Args:
        trees: at least one.
        device: where the tensors are to be.
        shared: what all prompts begin with, such as the system turn of a chat template, stands once at the row's
            beginning, as a segment of its own.
        ends: with the last token of each response, which log-probabilities do not need, since it predicts nothing that
            is asked for. Without it ``last`` is empty.

    Raises:
        UsageError: no trees, or a prompt or response without tokens.
    """
    if not trees:
        raise UsageError("there are no trees to pack; pass at least one prompt with a response.")
    for number, tree in enumerate(trees):
        _check(tree, number)
    root = trees[0].prompt_ids[: _common(trees)] if shared else ()
    ids: list[int] = [*root]
    predictor: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    last: list[int] = []
    segments = [_segment(0, [(0, 0, len(root))], device)] if root else []
    n_responses = 0
    for tree in trees:
        start, n_prompt = len(ids), len(tree.prompt_ids)
        ids.extend(tree.prompt_ids[len(root) :])
        pieces = [(0, len(root), n_prompt)]
        before = len(ids) - 1  # the prompt's last token predicts the first token of every response
        for k, response in enumerate(tree.response_ids, start=1):
            first, length = len(ids), len(response) - (not ends)
            predictor.append(before)
            predictor.extend(range(first, first + len(response) - 1))
            target.extend(response)
            owner.extend([n_responses] * len(response))
            ids.extend(response[:length])
            last.append(len(ids) - 1)
            pieces.append((k, n_prompt, n_prompt + length))
            n_responses += 1
        segments.append(_segment(start, pieces, device, root=len(root)))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return PackedRow(
        input_ids=tensor(ids),
        position_ids=torch.cat([s.positions for s in segments]),
        segments=tuple(segments),
        predictor=tensor(predictor),
        target=tensor(target),
        owner=tensor(owner),
        last=tensor(last if ends else []),
        n_responses=n_responses,
        longest=max(len(t.prompt_ids) + len(r) for t in trees for r in t.response_ids),
    )


def _common(trees: Sequence[Tree]) -> int:
    """Tokens that all prompts begin with, if they are worth a segment; each prompt keeps a token of its own."""
    if len(trees) < 2:
        return 0
    first, last = min(t.prompt_ids for t in trees), max(t.prompt_ids for t in trees)
    longest = min(len(t.prompt_ids) for t in trees) - 1
    common = next((i for i in range(longest) if first[i] != last[i]), max(longest, 0))
    return common if common >= WORTH_SHARING else 0


def _segment(start: int, pieces: Sequence[tuple[int, int, int]], device: torch.device | str, root: int = 0) -> Segment:
    """From (branch, first position, end of positions) of each piece."""
    positions = torch.cat([torch.arange(begin, end) for _, begin, end in pieces])
    branch = torch.cat([torch.full((end - begin,), k) for k, begin, end in pieces])
    return Segment(start, start + len(positions), positions.to(device), branch.to(device), root)


def _check(tree: Tree, number: int) -> None:
    if not tree.prompt_ids or not tree.response_ids or not all(tree.response_ids):
        raise UsageError(
            f"tree {number} has a prompt of {len(tree.prompt_ids)} tokens and responses of "
            f"{[len(r) for r in tree.response_ids]}; each needs at least one token, and a tree at least one response."
        )
