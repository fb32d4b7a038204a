"""Splits that keep a conversation on one side: examples are grouped by the prompt's opening turn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from safetyvalve.data.schema import PreferenceExample
from safetyvalve.errors import DataError, UsageError

__all__ = ["Split", "choose_examples", "opening_turn", "split_by_opening"]


class Split(NamedTuple):
    """Two disjoint parts of the data; no opening turn is in both."""

    train: list[PreferenceExample]
    held_out: list[PreferenceExample]


def opening_turn(example: PreferenceExample) -> str:
    """The first turn that is not the system's, spaces and case folded: what conversations share that began alike."""
    first = next((m for m in example.prompt if m.role != "system"), example.prompt[0])
    return " ".join(first.content.casefold().split())


def choose_examples(examples: Sequence[PreferenceExample], count: int, *, seed: int = 0) -> list[PreferenceExample]:
    """At most ``count`` of them, in their order, chosen by a seeded hash of their content.

    A larger ``count`` takes the same ones and more, so that a pilot's examples stay in the run that follows it.
    """
    order = sorted(
        range(len(examples)), key=lambda i: hashlib.sha256(f"{seed}\0chosen\0{examples[i].id}".encode()).digest()
    )
    return [examples[i] for i in sorted(order[:count])]


def split_by_opening(examples: Sequence[PreferenceExample], *, held_out: float | int, seed: int = 0) -> Split:
    """Put whole groups of equal opening turns on the held-out side until it is large enough.

    Groups are taken in the order of a seeded hash, so the split depends on content and seed only: not on file
    order, and adding rows moves few others.

    Args:
        examples: in any order; each part keeps it.
        held_out: a share in (0, 1), or a number of examples of at least 1. Groups stay whole, so the held-out side
            can exceed it by the size of its last group.
        seed: chooses the split.

    Raises:
        UsageError: ``held_out`` out of range.
        DataError: no examples would be left to train on.
    """
    if isinstance(held_out, bool) or not held_out > 0 or (isinstance(held_out, float) and held_out >= 1):
        raise UsageError(
            f"held-out size is {held_out}; accepted: a share between 0 and 1, such as 0.1, or a whole number of "
            "examples."
        )
    target = held_out * len(examples) if isinstance(held_out, float) else held_out
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(opening_turn(example), []).append(index)
    order = sorted(groups, key=lambda turn: hashlib.sha256(f"{seed}\0{turn}".encode()).digest())
    chosen: set[int] = set()
    for turn in order:
        if len(chosen) >= target:
            break
        chosen.update(groups[turn])
    if len(chosen) == len(examples):
        raise DataError(
            f"{len(examples)} examples with {len(groups)} distinct opening turns leave none to train on when "
            f"{held_out} are held out. Add data or hold out fewer."
        )
    return Split(
        [e for i, e in enumerate(examples) if i not in chosen], [e for i, e in enumerate(examples) if i in chosen]
    )
