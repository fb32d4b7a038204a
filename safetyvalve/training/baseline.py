"""The baseline of the SFT term: which responses it pulls towards, and with which weight.

The SFT term is the mean of -log policy over a law of (prompt, response). A law over the data's prompts is carried by
the examples themselves: their weights are those that the prompts have through their comparisons, whatever the baseline,
so that only the law of responses differs from that of the chosen ones. A separate SFT set has its own prompts, which
count alike; some of them join every step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from safetyvalve.data import (
    DataReport,
    PreferenceExample,
    Prompt,
    Split,
    TokenizedExample,
    load_demonstrations,
    opening_turn,
    split_by_opening,
    tokenize_example,
)
from safetyvalve.errors import DataError
from safetyvalve.training.objective import ReferencedExample

__all__ = [
    "SftPool",
    "SftSet",
    "SftTrees",
    "attach",
    "column_law",
    "compared_texts",
    "compared_tokens",
    "load_sft_set",
    "over_compared",
    "over_responses",
    "with_column",
]


def over_compared(tokens: TokenizedExample) -> TokenizedExample:
    """Baseline ``all-responses``: a response drawn from a comparison, winner and loser alike."""
    law: dict[int, float] = {}
    for c in tokens.comparisons:
        for side in (c.winner, c.loser):
            law[side] = law.get(side, 0.0) + c.weight / 2
    return tokens._replace(baseline=tuple(law.items()))


def over_responses(tokens: TokenizedExample) -> TokenizedExample:
    """Baseline of demonstrations: all responses alike, with a weight of 1 together."""
    n = len(tokens.response_ids)
    return tokens._replace(baseline=tuple((i, 1 / n) for i in range(n)))


def attach(tokens: TokenizedExample, responses: Sequence[tuple[int, ...]]) -> TokenizedExample:
    """The example with these responses as its baseline: each has an equal share of its comparisons' weight.

    Those that the example has already stay where they are; others become further leaves of its tree, which no
    comparison names. A response that is given twice has twice the share; none at all leaves the SFT term to the others.
    """
    weight = sum(c.weight for c in tokens.comparisons)
    leaves = list(tokens.response_ids)
    law: dict[int, float] = {}
    for ids in responses:
        if ids not in leaves:
            leaves.append(ids)
        place = leaves.index(ids)
        law[place] = law.get(place, 0.0) + weight / len(responses)
    return tokens._replace(response_ids=tuple(leaves), baseline=tuple(law.items()))


def with_column(
    examples: Sequence[PreferenceExample],
    tokenized: Sequence[TokenizedExample],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None,
    on_long: str,
) -> list[TokenizedExample]:
    """Baseline ``column``: the responses that each example has in its ``baseline``.

    Args:
        examples: as they were tokenized, in the same order; some may have been left out then.
        tokenized: those that were kept.
        tokenizer: of both.
        max_length: most tokens of prompt plus response; None for no limit.
        on_long: ``error`` raises past it; anything else leaves such a response out of the baseline, since what is cut
            from it would be missing from the law.

    Raises:
        DataError: an example without a baseline, or one that is too long.
    """
    kept = {t.id for t in tokenized}
    result = []
    for example, tokens in zip((e for e in examples if e.id in kept), tokenized, strict=True):
        if not example.baseline:
            raise DataError(
                f"example {example.id} has no baseline response, {example.prompt[-1].content[:60]!r}; the baseline "
                "column must hold one or more for every prompt. Fill it, leave such rows out, or take another "
                "--baseline."
            )
        alone = example.model_copy(update={"responses": example.baseline, "comparisons": ()})
        responses = tokenize_example(alone, tokenizer).response_ids
        short = [r for r in responses if max_length is None or len(tokens.prompt_ids) + len(r) <= max_length]
        if len(short) < len(responses) and on_long == "error":
            longest = len(tokens.prompt_ids) + max(map(len, responses))
            raise DataError(
                f"example {example.id} has a baseline response of {longest} tokens with its prompt; at most "
                f"--max-length {max_length} are accepted. Raise it, or leave such responses out with --on-long drop."
            )
        result.append(attach(tokens, short))
    return result


class SftSet(NamedTuple):
    """Demonstrations of a separate file, divided as the data are: a held-out conversation is not trained on."""

    train: list[PreferenceExample]
    held_out: list[PreferenceExample]
    report: DataReport

    def law(self) -> Iterator[tuple[Prompt, str, float]]:
        """(prompt, response, weight) of what is trained on: prompts alike, their responses alike."""
        for d in self.train:
            for response in d.responses:
                yield d.prompt, response.content, 1 / len(d.responses)


def load_sft_set(
    file: str | Path,
    *,
    train: Sequence[PreferenceExample],
    held_out: Sequence[PreferenceExample],
    max_drop: float,
    seed: int,
) -> SftSet:
    """Read and divide a file of demonstrations for the baseline ``sft-data``.

    A conversation that opens as one of the data goes to that one's side. Of the others the same share is held out.

    Raises:
        DataError: the file cannot be used, or all of it is held out.
    """
    loaded = load_demonstrations(file, max_drop=max_drop)
    side = {opening_turn(e): True for e in train} | {opening_turn(e): False for e in held_out}
    known = [(side[turn], d) for d in loaded.examples if (turn := opening_turn(d)) in side]
    rest = [d for d in loaded.examples if opening_turn(d) not in side]
    target = round(len(rest) * len(held_out) / (len(train) + len(held_out)))
    others = Split(rest, [])
    if target and len({opening_turn(d) for d in rest}) > 1:
        others = split_by_opening(rest, held_out=target, seed=seed)
    found = SftSet(
        [d for trained, d in known if trained] + others.train,
        [d for trained, d in known if not trained] + others.held_out,
        loaded.report,
    )
    if not found.train:
        raise DataError(
            f"all {len(loaded.examples)} prompts open conversations that are held out for measuring; none is left to "
            "train on. Hold out fewer, or name another --sft-data.",
            file=file,
        )
    return found


class SftTrees(NamedTuple):
    """Tokenized demonstrations of a separate SFT set."""

    train: list[TokenizedExample]
    held_out: list[TokenizedExample]
    per_step: int
    """Prompts that join every step."""


class SftPool:
    """Draws the prompts of a separate SFT set that join a step.

    All are drawn once, in a seeded order, before any is drawn again. What a step draws depends on its number only, so
    that a resumed run draws the same.

    Args:
        examples: the prompts with their responses, at least one.
        per_step: prompts a step.
        seed: of the order.
    """

    def __init__(self, examples: Sequence[ReferencedExample], *, per_step: int, seed: int) -> None:
        self.examples, self.per_step = list(examples), per_step
        self._order = lru_cache(maxsize=2)(lambda turn: _shuffled(len(self.examples), f"{seed}-{turn}"))

    def draw(self, step: int) -> list[ReferencedExample]:
        """Those of the step with this number, counted from 0."""
        numbers = range(step * self.per_step, (step + 1) * self.per_step)
        places = [divmod(k, len(self.examples)) for k in numbers]
        return [self.examples[self._order(turn)[place]] for turn, place in places]


def _shuffled(n: int, seed: str) -> list[int]:
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return order


def column_law(examples: Sequence[PreferenceExample]) -> Iterator[tuple[Prompt, str, float]]:
    """(prompt, response, weight) of the baseline column."""
    for e in examples:
        weight = sum(c.weight for c in e.comparisons)
        for response in e.baseline:
            yield e.prompt, response.content, weight / len(e.baseline)


def compared_texts(examples: Sequence[PreferenceExample]) -> dict[Prompt, set[str]]:
    """For each prompt the texts of the responses that a comparison names."""
    found: dict[Prompt, set[str]] = {}
    for e in examples:
        named = found.setdefault(e.prompt, set())
        for c in e.comparisons:
            named |= {e.responses[c.winner].content, e.responses[c.loser].content}
    return found


def compared_tokens(examples: Sequence[TokenizedExample]) -> dict[tuple[int, ...], set[tuple[int, ...]]]:
    """The same by token ids."""
    found: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for t in examples:
        named = found.setdefault(t.prompt_ids, set())
        for c in t.comparisons:
            named |= {t.response_ids[c.winner], t.response_ids[c.loser]}
    return found
