"""Sampling answers from a model, in batches of prompts of like length under a token budget."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.errors import UsageError
from safetyvalve.generation.decoding import decode
from safetyvalve.trees import underlying

__all__ = ["TOKEN_BUDGET", "Sample", "sample", "sample_in_batches"]

TOKEN_BUDGET = 24576
"""Tokens of the answers drawn together, their prompts and length limits included; bounds the memory."""


class Sample(NamedTuple):
    """One sampled answer."""

    prompt_index: int
    """Which of the given prompts it answers."""
    token_ids: tuple[int, ...]
    """The tokens, up to and including the end token where there is one."""
    text: str
    finished: bool
    """Whether it ended by itself and not at the length limit."""
    number: int = 0
    """Which of the prompt's answers it is, counted from 0."""


class _Unit(NamedTuple):
    """Answers of one prompt that are drawn together: numbers ``start`` to ``stop``."""

    prompt: int
    start: int
    stop: int


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    token_budget: int = TOKEN_BUDGET,
    autocast: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sample]:
    """Sample ``n`` answers to each prompt from the whole distribution (no top-k, no top-p).

    What an answer is drawn with depends on the seed, the prompt's tokens and the answer's number alone, whatever else
    is drawn with it; rounding in batches of another shape can still turn a token.

    Args:
        model: left in the mode (training or evaluation) and attention that it came with.
        tokenizer: gives the end token and the text.
        prompts: token ids, each at least one, as :func:`safetyvalve.data.render_prompt` and the tokenizer make them.
        n: answers a prompt, at least 1.
        max_new_tokens: length limit of an answer, at least 1.
        temperature: above 0; 1 samples from the model itself, which KL estimates need.
        seed: at least 0; the global random state is not used.
        token_budget: of answers drawn together, prompts and length limits included; a larger one is drawn alone.
        autocast: the type to compute in, or None for the model's own.
        progress: called with answers done and their total.

    Returns:
        Samples ordered by prompt, then by number.

    Raises:
        UsageError: an argument out of range.
    """
    results: list[Sample] = []
    for drawn in sample_in_batches(
        model,
        tokenizer,
        prompts,
        n=n,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        token_budget=token_budget,
        autocast=autocast,
    ):
        results += drawn
        if progress is not None:
            progress(len(results), n * len(prompts))
    return sorted(results, key=lambda s: (s.prompt_index, s.number))


def sample_in_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    token_budget: int = TOKEN_BUDGET,
    autocast: torch.dtype | None = None,
) -> Iterator[list[Sample]]:
    """:func:`sample` batch by batch as they are drawn, short prompts first; arguments and errors are the same."""
    for name, value in (("n", n), ("max_new_tokens", max_new_tokens), ("token_budget", token_budget)):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1.")
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it must be above 0.")
    model = underlying(model)
    uniforms = _uniforms(prompts, n, max_new_tokens, seed)
    end = int(tokenizer.eos_token_id)
    for batch in _batches([len(p) + max_new_tokens for p in prompts], n, token_budget):
        answers = _draw(
            model,
            [prompts[unit.prompt] for unit in batch],
            np.stack([uniforms[unit.prompt][unit.start : unit.stop] for unit in batch]),
            end,
            temperature,
            autocast,
        )
        owners = [(unit.prompt, number) for unit in batch for number in range(unit.start, unit.stop)]
        yield [
            Sample(prompt, tuple(ids), str(tokenizer.decode(ids, skip_special_tokens=True)), ids[-1] == end, number)
            for (prompt, number), ids in zip(owners, answers, strict=True)
        ]


@torch.no_grad()
def _draw(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniforms: np.ndarray,
    end: int,
    temperature: float,
    autocast: torch.dtype | None,
) -> list[list[int]]:
    """One batch, with the model's mode as it was between batches: whoever asks for them may train meanwhile."""
    was_training, frozen = (
        model.training,
        [p for p in model.parameters() if not p.requires_grad and not p.is_inference()],
    )
    model.eval()
    try:
        # Autocast keeps the cast of a weight only where it asks for a gradient, which none does here; without this the
        # frozen weights under an adapter are cast again for every token. The casts take two bytes a weight meanwhile.
        for weight in frozen:
            weight.requires_grad = weight.is_floating_point() and autocast is not None
        with torch.autocast(model.device.type, dtype=autocast, enabled=autocast is not None):
            return decode(model, prompts, torch.from_numpy(uniforms), end=end, temperature=temperature)
    finally:
        for weight in frozen:
            weight.requires_grad = False
        model.train(was_training)


def _batches(sizes: Sequence[int], n: int, budget: int) -> Iterator[list[_Unit]]:
    """Units of one width that fit the budget together, of prompts of like length; ``sizes`` are tokens an answer."""
    batch: list[_Unit] = []
    for prompt in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        width = max(1, min(n, budget // sizes[prompt]))
        for start in range(0, n, width):
            unit = _Unit(prompt, start, min(start + width, n))
            rows = unit.stop - unit.start
            same = not batch or batch[0].stop - batch[0].start == rows
            if batch and not (same and (len(batch) + 1) * rows * sizes[prompt] <= budget):
                yield batch
                batch = []
            batch.append(unit)
    if batch:
        yield batch


def _uniforms(prompts: Sequence[Sequence[int]], n: int, tokens: int, seed: int) -> list[np.ndarray]:
    """fp64 [n, token] in [0, 1) a prompt; a prompt that occurs again is drawn with other numbers."""
    seen: Counter[tuple[int, ...]] = Counter()
    result = []
    for prompt in prompts:
        key = tuple(prompt)
        name = hashlib.sha256(repr(list(key)).encode()).digest()
        words = np.frombuffer(name, dtype=np.uint32).tolist()
        result.append(np.random.default_rng([seed, seen[key], *words]).random((n, tokens)))
        seen[key] += 1
    return result
