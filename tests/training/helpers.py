"""Small examples with reference log-probabilities, and small files, for the trainer's tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel

from safetyvalve.data import Comparison, TokenizedExample
from safetyvalve.training import ReferencedExample
from safetyvalve.trees import Tree, response_logps
from tests.tiny import random_tree


def write_pairs(file: Path, count: int) -> Path:
    """Comparisons whose rejected responses have four lengths."""
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"Answer {i}.", "rejected": "No " * (1 + i % 4)} for i in range(count)
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


def tokenized(tree: Tree, comparisons: tuple[tuple[int, int, float], ...], name: str) -> TokenizedExample:
    return TokenizedExample(
        name,
        tree.prompt_ids,
        tree.response_ids,
        tuple(Comparison(winner=w, loser=loser, weight=weight) for w, loser, weight in comparisons),
    )


def referenced(reference: PreTrainedModel, tokens: TokenizedExample) -> ReferencedExample:
    with torch.no_grad():
        sums = response_logps(reference, [Tree(tokens.prompt_ids, tokens.response_ids)]).sums()
    return ReferencedExample(tokens, sums)


def examples(reference: PreTrainedModel) -> list[ReferencedExample]:
    """Pairs, a ranking of three, weights other than one, lengths from 1 to 40."""
    forms = [
        (random_tree(12, 9, 4, seed=1), ((0, 1, 1.0),)),
        (random_tree(30, 2, 40, seed=2), ((1, 0, 1.0),)),
        (random_tree(5, 7, 1, 13, seed=3), ((0, 1, 1.0), (0, 2, 0.5), (2, 1, 2.0))),
        (random_tree(18, 21, 20, seed=4), ((1, 0, 3.0),)),
        (random_tree(1, 6, 6, seed=5), ((0, 1, 1.0),)),
    ]
    return [referenced(reference, tokenized(t, c, f"example-{i}")) for i, (t, c) in enumerate(forms)]
