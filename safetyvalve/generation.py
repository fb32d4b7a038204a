"""Sampling answers with transformers, in batches of similar prompt length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.errors import UsageError
from safetyvalve.trees import underlying

__all__ = ["Sample", "sample"]


class Sample(NamedTuple):
    """One sampled answer."""

    prompt_index: int
    """Which of the given prompts it answers."""
    token_ids: tuple[int, ...]
    """The tokens, up to and including the end token where there is one."""
    text: str
    finished: bool
    """Whether it ended by itself and not at the length limit."""


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    autocast: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sample]:
    """Sample ``n`` answers to each prompt from the whole distribution (no top-k, no top-p).

    Args:
        model: left in the mode (training or evaluation) and attention that it came with.
        tokenizer: gives the end token and the text.
        prompts: token ids, each at least one, as :func:`safetyvalve.data.render_prompt` and the tokenizer make them.
        n: answers a prompt, at least 1.
        max_new_tokens: length limit of an answer, at least 1.
        temperature: above 0; 1 samples from the model itself, which KL estimates need.
        seed: of a generator of its own; the global random state is left as it was.
        batch_size: answers sampled together.
        autocast: the type to compute in, or None for the model's own.
        progress: called with answers done and their total.

    Returns:
        Samples ordered by prompt, then by number.

    Raises:
        UsageError: an argument out of range.
    """
    for name, value in (("n", n), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1.")
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it must be above 0.")
    model = underlying(model)  # a PEFT wrapper would leave the settings of this sampling on the model inside
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    jobs = [i for i in order for _ in range(n)]
    results: dict[int, list[Sample]] = {i: [] for i in range(len(prompts))}
    was_training, own_settings = model.training, model.generation_config
    model.eval()
    # A model may ship penalties or cut-offs of its own, which would sample another distribution than its own.
    model.generation_config = GenerationConfig()
    # transformers draws from the global generator; fork it, so that sampling never shifts the order of training.
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.autocast(model.device.type, dtype=autocast, enabled=autocast is not None),
        ):
            torch.manual_seed(seed)
            for start in range(0, len(jobs), batch_size):
                batch = jobs[start : start + batch_size]
                for i, s in zip(
                    batch, _batch(model, tokenizer, prompts, batch, max_new_tokens, temperature), strict=True
                ):
                    results[i].append(s)
                if progress is not None:
                    progress(start + len(batch), len(jobs))
    finally:
        model.train(was_training)
        model.generation_config = own_settings
    return [s for i in range(len(prompts)) for s in results[i]]


def _batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    batch: Sequence[int],
    max_new_tokens: int,
    temperature: float,
) -> list[Sample]:
    end = int(tokenizer.eos_token_id)
    longest = max(len(prompts[i]) for i in batch)
    ids = torch.full((len(batch), longest), end)
    mask = torch.zeros(len(batch), longest, dtype=torch.int64)
    for row, i in enumerate(batch):
        ids[row, longest - len(prompts[i]) :] = torch.tensor(list(prompts[i]))
        mask[row, longest - len(prompts[i]) :] = 1
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        eos_token_id=end,
        pad_token_id=end,
    )
    samples = []
    for i, row in zip(batch, output[:, longest:].tolist(), strict=True):
        # The first end token ends the answer; what follows it is padding, whose id it shares.
        finished = end in row
        tokens = row[: row.index(end) + 1] if finished else row
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        samples.append(Sample(i, tuple(tokens), str(text), finished))
    return samples
