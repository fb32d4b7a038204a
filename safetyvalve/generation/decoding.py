"""Decoding of a batch: each prompt computed once for all its answers, answers that have ended computed no more."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

__all__ = ["decode", "next_tokens"]

_DROP_AT = 0.75
"""Rows are dropped from the cache when fewer than this share of them still run: each time the cache is copied."""


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer, with room for tokens to come: nothing is copied to add one."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.filled = room, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            batch, heads, _, dim = key_states.shape
            self.keys = key_states.new_empty(batch, heads, self.room, dim)
            self.values = value_states.new_empty(batch, heads, self.room, value_states.shape[-1])
        stop = self.filled + key_states.shape[-2]
        self.keys[:, :, self.filled : stop] = key_states
        self.values[:, :, self.filled : stop] = value_states
        self.filled = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_seq_length(self) -> int:
        return self.filled


@dataclass
class _State:
    """What the answers that still run have said, and what is computed of it."""

    ids: Tensor
    """int64 [row, token], padded on the left."""
    mask: Tensor
    """int64 [row, token]: 0 at the padding."""
    cache: DynamicCache | None
    """None for a model that keeps none: it computes everything again for each token."""
    computed: int = 0
    """Tokens of a row that the cache holds."""

    @classmethod
    def of(cls, model: PreTrainedModel, ids: Tensor, mask: Tensor, *, room: int) -> _State:
        return cls(ids, mask, _cache(model, ids.shape[1] + room) if _has_cache(model) else None)

    def select(self, rows: Tensor) -> None:
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        if self.cache is not None:
            self.cache.reorder_cache(rows)

    def append(self, tokens: Tensor) -> None:
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)

    def forward(self, model: PreTrainedModel) -> Tensor:
        """[row, vocabulary]: logits of the token after the last."""
        taken = inspect.signature(model.forward).parameters
        extra: dict[str, Any] = {}
        if "position_ids" in taken:
            extra["position_ids"] = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, self.computed :]
        if "logits_to_keep" in taken:
            extra["logits_to_keep"] = 1
        if self.cache is not None:
            extra |= {"past_key_values": self.cache, "attention_mask": self.mask}
        output = model(input_ids=self.ids[:, self.computed :], use_cache=self.cache is not None, **extra)
        if self.cache is not None:
            self.computed = self.ids.shape[1]
        logits: Tensor = output.logits[:, -1]
        return logits


def decode(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], uniforms: Tensor, *, end: int, temperature: float
) -> list[list[int]]:
    """Sample answers to a batch of prompts.

    Args:
        model: in evaluation mode.
        prompts: token ids, each at least one.
        uniforms: fp64 [prompt, n, token] in [0, 1): what each token of each answer is drawn with.
        end: the token that ends an answer.
        temperature: above 0.

    Returns:
        The tokens of each answer, the end token included where it came, ordered by prompt and number.
    """
    count, n, limit = uniforms.shape
    if count > 1 and not _has_cache(model) and len(set(map(len, prompts))) > 1:  # no mask hides padding from all these
        parts = zip(prompts, uniforms, strict=True)
        return [row for p, u in parts for row in decode(model, [p], u[None], end=end, temperature=temperature)]
    uniforms = uniforms.reshape(count * n, limit).to(model.device)
    state = _State.of(model, *_left_padded(prompts, end, model.device), room=limit)
    logits = state.forward(model)
    if n > 1:
        place = torch.arange(count, device=model.device).repeat_interleave(n)
        state.select(place)
        logits = logits[place]
    index = torch.arange(count * n, device=model.device)
    out = torch.full((count * n, limit), end, dtype=torch.int64, device=model.device)
    running = torch.ones(count * n, dtype=torch.bool, device=model.device)
    for step in range(limit):
        tokens = next_tokens(logits, uniforms[index, step], temperature)
        out[index, step] = tokens.where(running[index], end)
        running[index] &= tokens != end
        alive = running[index]
        if step + 1 == limit or not bool(alive.any()):
            break
        if int(alive.sum()) < _DROP_AT * len(alive):
            kept = alive.nonzero()[:, 0]
            state.select(kept)
            index, tokens = index[kept], tokens[kept]
        state.append(tokens)
        logits = state.forward(model)
    return [row[: row.index(end) + 1] if end in row else row for row in out.tolist()]


def next_tokens(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """int64 [row]: the first token whose cumulative probability exceeds the row's uniform number.

    Args:
        logits: [row, vocabulary].
        uniforms: fp64 [row] in [0, 1).
        temperature: above 0.
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    # In fp32 the end of a long sum would swallow the rare tokens.
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    places = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    return places.clamp(max=logits.shape[-1] - 1)


def _left_padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _cache(model: PreTrainedModel, room: int) -> DynamicCache:
    """The model's own layout of layers, those that keep everything with room for it."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _has_cache(model: PreTrainedModel) -> bool:
    return "past_key_values" in inspect.signature(model.forward).parameters
