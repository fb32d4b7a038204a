"""What is measured: each row of the table in docs/performance.md, with its data and its two sides."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from safetyvalve.data import Comparison, PreferenceExample, TokenizedExample, load_preferences, tokenize_examples

__all__ = ["BATCH", "HH", "WORKLOADS", "Workload", "data_hash", "examples_of", "tokens_of"]

BATCH = 4
"""Prompts of an optimizer step on either side."""
HH = next(
    (
        folder / "shared" / "data" / "hh-harmless-test.jsonl.gz"
        for folder in Path(__file__).resolve().parents
        if (folder / "shared" / "data" / "hh-harmless-test.jsonl.gz").exists()
    ),
    Path("hh-harmless-test.jsonl.gz"),
)
"""The test split of hh-rlhf's harmless-base (``--hh`` names another place)."""

LONG_PROMPT, LONG_RESPONSE = 1500, 50


class Workload(NamedTuple):
    """One row of the table."""

    name: str
    what: str
    unit: str
    """What a second is divided by."""
    precision: str
    data: str
    """``hh``, ``rankings``, ``dialogues`` or ``long``."""
    examples: int
    """Prompts, from the start of the file."""
    task: str = "train"
    """``train``, ``reference`` or ``reward``."""
    peer: str = "trl"
    """``trl``, or ``padded``: our own forward without sharing."""
    goal: float = 1.0
    """Ratio of speeds below which the row has failed."""


WORKLOADS = {
    w.name: w
    for w in (
        Workload("hh_pairs_bf16", "hh-harmless pairs, training", "pair", "bf16", "hh", 64, goal=6.0),
        Workload("hh_pairs_fp32", "hh-harmless pairs, training", "pair", "fp32", "hh", 64, goal=4.5),
        Workload(
            "rankings_bf16",
            "4 responses to a dialogue of hh-harmless, two of them another dialogue's, as a ranking, training",
            "comparison",
            "bf16",
            "dialogues",
            8,
            goal=18.0,
        ),
        Workload(
            "rankings_short_bf16",
            "4 ranked responses to a short prompt, training",
            "comparison",
            "bf16",
            "rankings",
            8,
            goal=18.0,
        ),
        Workload(
            "reference_pass_bf16", "hh-harmless pairs, reference pass", "pair", "bf16", "hh", 64, "reference", goal=5.0
        ),
        Workload(
            "long_prompts_fp32",
            "prompts of 1,500 tokens, responses of 50, training",
            "pair",
            "fp32",
            "long",
            4,
            peer="padded",
            goal=1.8,
        ),
        Workload("reward_pairs_bf16", "hh-harmless pairs, reward model", "pair", "bf16", "hh", 16, "reward", goal=3.0),
    )
}


def examples_of(workload: Workload, count: int, hh: Path) -> list[PreferenceExample]:
    """The first ``count`` examples in file order."""
    if workload.data == "rankings":
        place = Path(str(files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl")))
        return [e for e in load_preferences(place).examples if len(e.comparisons) == 6][:count]
    if workload.data == "dialogues":
        examples = load_preferences(hh).examples
        return [_ranked(own, other) for own, other in zip(examples[:count], examples[count : 2 * count], strict=True)]
    return load_preferences(hh).examples[: count if workload.data == "hh" else None]


def _ranked(own: PreferenceExample, other: PreferenceExample) -> PreferenceExample:
    """A ranking of four answers to the first: two are another dialogue's, since nobody gave more. The lengths are real,
    and speed depends on nothing else."""
    order = itertools.combinations(range(4), 2)
    return PreferenceExample(
        prompt=own.prompt,
        responses=(*own.responses, *other.responses),
        comparisons=tuple(Comparison(winner=winner, loser=loser) for winner, loser in order),
    )


def tokens_of(
    workload: Workload, examples: Sequence[PreferenceExample], tokenizer: PreTrainedTokenizerBase, count: int
) -> list[TokenizedExample]:
    """Their tokens; of long prompts, real tokens put together to the lengths that are asked for."""
    tokens = tokenize_examples(examples, tokenizer).examples
    return _long(tokens, count) if workload.data == "long" else tokens


def data_hash(tokens: Sequence[TokenizedExample]) -> str:
    """sha256 over all token ids, to prove that both sides had the same data."""
    digest = hashlib.sha256()
    for t in tokens:
        digest.update(json.dumps([t.prompt_ids, t.response_ids]).encode())
    return digest.hexdigest()


def _long(tokens: Sequence[TokenizedExample], count: int) -> list[TokenizedExample]:
    stream = iter([t for e in tokens for ids in (e.prompt_ids, *e.response_ids) for t in ids])

    def take(n: int) -> tuple[int, ...]:
        return tuple(next(stream) for _ in range(n))

    return [
        e._replace(prompt_ids=take(LONG_PROMPT), response_ids=(take(LONG_RESPONSE), take(LONG_RESPONSE)))
        for e in tokens[:count]
    ]
