"""Which trees share a row: first-fit decreasing under a token budget."""

from __future__ import annotations

from collections.abc import Sequence

from safetyvalve.errors import UsageError
from safetyvalve.trees.plan import Engine, Tree

__all__ = ["pack_by_budget", "tokens_computed"]


def tokens_computed(tree: Tree, engine: Engine) -> int:
    """Tokens that a forward of this tree computes: the plain one repeats the prompt and pads the responses."""
    if engine == "tree":
        return tree.n_tokens
    return len(tree.response_ids) * (len(tree.prompt_ids) + max(map(len, tree.response_ids)))


def pack_by_budget(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Group items so that each group's total stays within the budget.

    First-fit decreasing: deterministic, and at most 11/9 of the best possible number of groups plus one. An item
    larger than the budget gets a group of its own, since nothing is cut.

    Args:
        sizes: tokens of each item, in the caller's order.
        budget: tokens a group, at least 1.

    Returns:
        Groups of indices into ``sizes``; within a group in the caller's order.
    """
    if budget < 1:
        raise UsageError(f"token budget is {budget}; it must be at least 1, such as 2048.")
    groups: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        place = next((g for g, left in enumerate(room) if sizes[index] <= left), None)
        if place is None:
            groups.append([])
            room.append(budget)
            place = len(groups) - 1
        groups[place].append(index)
        room[place] -= sizes[index]
    return [sorted(group) for group in groups]
