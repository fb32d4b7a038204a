"""How the attention of one tree is cut: query rows with just the keys that they may see."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from safetyvalve.trees.plan import PositionRule, Segment

__all__ = ["Table", "Tile", "Tiling", "tiles"]

_ROWS = 256
"""Query tokens of a tile at most. Smaller ones compute fewer forbidden pairs in more, smaller products."""
_GROUP = 128
"""Query tokens up to which responses share a tile: each also computes its pairs with the others', then masked."""
_WHOLE = 256
"""Tokens up to which a tree is one tile: calls cost more there than what is masked."""


class Tile(NamedTuple):
    """Query tokens ``start`` to ``stop`` of the row, with their keys."""

    start: int
    stop: int
    keys: tuple[tuple[int, int], ...]
    """Ranges of the row that any of the queries sees."""
    bias: Tensor
    """[query, key]: 0 where a query sees a key, minus infinity where not."""

    def gather(self, states: Tensor) -> Tensor:
        """[head, token of the row, dim] -> [head, key, dim]; a view where the keys are one range."""
        if len(self.keys) == 1:
            return states[:, slice(*self.keys[0])]
        return torch.cat([states[:, slice(*r)] for r in self.keys], dim=1)

    def scatter_add(self, total: Tensor, part: Tensor) -> None:
        """Add [head, key, dim] to the keys' places in ``total`` [head, token of the row, dim]."""
        first = 0
        for begin, end in self.keys:
            total[:, begin:end] += part[:, first : first + end - begin]
            first += end - begin


class Table(NamedTuple):
    """Tiles as a kernel in C reads them."""

    tiles: Tensor
    """int64 [tile, 5]: first query and end, first of its ranges and their number, where its biases begin."""
    ranges: Tensor
    """int64 [range, 2]."""
    bias: Tensor
    """[biases of all tiles]."""


class Tiling(tuple[tuple[Tile, ...], ...]):
    """The tiles of each tree of a row; they cover every query token once."""

    @cached_property
    def table(self) -> Table:
        """Made once, though every layer asks for it."""
        rows: list[tuple[int, ...]] = []
        ranges: list[tuple[int, int]] = []
        at = 0
        each = [tile for tree in self for tile in tree]
        for tile in each:
            rows.append((tile.start, tile.stop, len(ranges), len(tile.keys), at))
            ranges += tile.keys
            at += tile.bias.numel()
        return Table(torch.tensor(rows), torch.tensor(ranges), torch.cat([tile.bias.flatten() for tile in each]))


def tiles(segment: Segment, rule: PositionRule, dtype: torch.dtype) -> tuple[Tile, ...]:
    """Tiles that cover a tree's query tokens; together they compute little more than the pairs that are allowed."""
    made = []
    for first, last in _cuts(segment.branch):
        allowed = segment.allowed(rule, first, last)
        ranges = _runs(allowed.any(0))
        seen = torch.cat([allowed[:, begin:end] for begin, end in ranges], dim=1)
        bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))
        at = segment.start
        places = tuple(_places(segment, begin, end) for begin, end in ranges)
        made.append(Tile(at + first, at + last, tuple(p for pair in places for p in pair), bias))
    return tuple(made)


def _places(segment: Segment, begin: int, end: int) -> list[tuple[int, int]]:
    """Ranges of the row for one of the keys of ``segment.allowed``, which are the root's and then its own."""
    apart = segment.start - segment.root
    own = (max(begin, segment.root) + apart, end + apart)
    root = (begin, min(end, segment.root))
    return [r for r in (root, own) if r[0] < r[1]]


def _cuts(branch: Tensor) -> list[tuple[int, int]]:
    """Query ranges: parts of the prompt, then small responses in groups and parts of long ones."""
    total = len(branch)
    if total <= _WHOLE:
        return [(0, total)]
    ranges: list[tuple[int, int]] = []
    group: tuple[int, int] | None = None
    at = 0
    for number, length in enumerate(torch.bincount(branch).tolist()):
        if not length:  # a response of one token without its last one
            continue
        if number and length <= _GROUP:
            if group and at + length - group[0] <= _GROUP:
                group = (group[0], at + length)
            else:
                ranges += [group] if group else []
                group = (at, at + length)
        else:
            pieces = -(-length // _ROWS)
            edges = [at + length * i // pieces for i in range(pieces + 1)]
            ranges += [group] if group else []
            ranges += pairwise(edges)
            group = None
        at += length
    return ranges + ([group] if group else [])


def _runs(seen: Tensor) -> list[tuple[int, int]]:
    """Ranges of True."""
    padded = torch.nn.functional.pad(seen.to(torch.int8), (1, 1))
    steps = padded.diff()
    return list(zip((steps == 1).nonzero()[:, 0].tolist(), (steps == -1).nonzero()[:, 0].tolist(), strict=True))
