"""How time and memory of a forward and backward pass grow with tokens, and what unequal responses cost.

    python -m benchmarks.speed.growth [--precision auto] [--rounds 5]

SmolLM2-135M on random tokens in one row, in the mean lengths of hh-harmless. The rows take turns, so that a slow moment
of the machine meets all of them; seconds are medians, and beside them is the median over rounds of the ratio to the row
that it is to be compared with. Memory is the most that was resident in a pass of its own above what was before it,
gradients not included, with what earlier passes left handed back.
"""

from __future__ import annotations

import argparse
import random
import time
from statistics import median
from typing import NamedTuple

import psutil
import torch

from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.models import load_model
from safetyvalve.precision import PRECISIONS, autocast_of, settled
from safetyvalve.training.memory import hand_back, peak_resident_bytes, reset_peak
from safetyvalve.trees import Tree, response_logps

PROMPT, RESPONSES = 145, (42, 51)
"""Mean tokens in hh-harmless."""


class Row(NamedTuple):
    name: str
    trees: list[Tree]
    beside: int
    """Index of the row that it is compared with."""


def rows() -> list[Row]:
    pairs = [[_tree(PROMPT, *RESPONSES) for _ in range(n)] for n in (2, 4, 8, 16)]
    return [
        *(Row(f"{len(trees)} pairs", trees, max(0, i - 1)) for i, trees in enumerate(pairs)),
        Row("4 pairs, all twice as long", [_tree(2 * PROMPT, *(2 * r for r in RESPONSES)) for _ in range(4)], 1),
        Row("8 prompts, 4 equal responses", [_tree(PROMPT, *[48] * 4) for _ in range(8)], 5),
        Row("8 prompts, 4 unequal responses", [_tree(PROMPT, 144, 16, 16, 16) for _ in range(8)], 5),
    ]


def _tree(prompt: int, *responses: int) -> Tree:
    return Tree(_ids(prompt), tuple(_ids(n) for n in responses))


def _ids(count: int) -> tuple[int, ...]:
    return tuple(random.randrange(100, 40_000) for _ in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    random.seed(0)
    model, _ = load_model("smollm2-135m")
    kind = autocast_of(options.precision)

    def seconds(trees: list[Tree]) -> float:
        begun = time.perf_counter()
        with torch.autocast("cpu", dtype=kind, enabled=kind is not None):
            total = response_logps(model, trees, engine="tree").tokens.sum()
        total.backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - begun

    all_rows = rows()
    seconds(all_rows[-1].trees)  # makes the gradients
    memory = []
    for row in all_rows:
        hand_back()
        before = psutil.Process().memory_info().rss
        reset_peak()
        seconds(row.trees)
        memory.append(peak_resident_bytes() - before)
    keep_freed_memory()
    taken: list[list[float]] = [[] for _ in all_rows]
    for number in range(options.rounds + 1):
        for row, figures in zip(all_rows, taken, strict=True):
            took = seconds(row.trees)
            if number:  # the first round fetches the memory that the others keep
                figures.append(took)
    print(f"{settled(options.precision)}, {torch.get_num_threads()} threads, {options.rounds} rounds\n")
    print("| row | tokens | seconds | ratio, of tokens | memory, GiB |\n| --- | --- | --- | --- | --- |")
    tokens = [sum(t.n_tokens for t in row.trees) for row in all_rows]
    for i, row in enumerate(all_rows):
        ratio = median(a / b for a, b in zip(taken[i], taken[row.beside], strict=True))
        beside = "" if row.beside == i else f"{ratio:.2f}, {tokens[i] / tokens[row.beside]:.2f}"
        print(f"| {row.name} | {tokens[i]:,} | {median(taken[i]):.2f} | {beside} | {memory[i] / 2**30:.2f} |")


if __name__ == "__main__":
    main()
