"""Texts to scores: tokens by the model's own template, in batches of a token budget; what has no score says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from safetyvalve.data import Prompt, tokenize_answers
from safetyvalve.errors import DataError, UsageError
from safetyvalve.rewards.model import RewardModel
from safetyvalve.rewards.scores import Scores
from safetyvalve.trees import Tree, pack_by_budget, tokens_computed

__all__ = ["batches", "score_texts"]

NOT_FINITE = "the reward is not finite"


class _Written(NamedTuple):
    """A prompt with its responses as tokens, where they can be scored."""

    tree: Tree | None
    kept: list[int]
    """Indices of the tree's responses among those given."""
    reasons: list[str | None]


def score_texts(
    model: RewardModel,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    *,
    token_budget: int,
    autocast: torch.dtype | None,
    progress: Callable[[int], None] | None,
) -> list[Scores]:
    """As :meth:`RewardModel.score`."""
    if len(prompts) != len(responses):
        raise UsageError(f"{len(prompts)} prompts with {len(responses)} lists of responses; one list a prompt.")
    written = [_write(p, r, model.tokenizer, model.max_length) for p, r in zip(prompts, responses, strict=True)]
    result = [_unscored(model, w) for w in written]
    todo = [i for i, w in enumerate(written) if w.tree is not None]
    if progress:
        progress(len(written) - len(todo))
    for group in batches([tree for w in written if (tree := w.tree) is not None], model, token_budget):
        chosen = [todo[g] for g in group]
        _fill(model, [written[i] for i in chosen], [result[i] for i in chosen], autocast)
        if progress:
            progress(len(group))
    return [_said(scores, w) for scores, w in zip(result, written, strict=True)]


def batches(trees: Sequence[Tree], model: RewardModel, token_budget: int) -> list[list[int]]:
    """Indices of trees that are computed together."""
    if not trees:
        return []
    engine = (model.choice or model.choose_engine(_telling(trees))).engine
    return pack_by_budget([tokens_computed(t, engine) for t in trees], token_budget)


def _telling(trees: Sequence[Tree]) -> list[Tree]:
    """The shortest and the longest."""
    order = sorted(trees, key=lambda t: t.n_tokens)
    return [order[0], order[-1]]


def _write(prompt: Prompt, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, longest: int | None) -> _Written:
    reasons: list[str | None] = []
    kept, ids = [], []
    prompt_ids: tuple[int, ...] = ()
    for index, text in enumerate(texts):
        try:
            prompt_ids, (answer,) = tokenize_answers(prompt, [text], tokenizer)
        except DataError as error:
            reasons.append(str(error))
            continue
        if longest is not None and len(prompt_ids) + len(answer) > longest:
            reasons.append(f"longer than the context ({len(prompt_ids) + len(answer)} tokens of {longest})")
            continue
        reasons.append(None)
        kept.append(index)
        ids.append(answer)
    return _Written(Tree(prompt_ids, tuple(ids)) if ids else None, kept, reasons)


def _unscored(model: RewardModel, written: _Written) -> Scores:
    count = len(written.reasons)
    return Scores(np.full((model.members, count), np.nan), np.full(count, np.nan) if model.widths else None)


@torch.no_grad()
def _fill(
    model: RewardModel, written: Sequence[_Written], into: Sequence[Scores], autocast: torch.dtype | None
) -> None:
    trees = [w.tree for w in written if w.tree is not None]
    with torch.autocast(model.device.type, dtype=autocast, enabled=autocast is not None):
        readings = [model.read(index, trees) for index in range(model.passes)]
    rewards = torch.cat([r.rewards.T for r in readings]).double().cpu().numpy()
    width = None
    if model.widths:
        each = [w(r.features) for w, r in zip(model.widths, readings, strict=True)]
        width = torch.stack(each).mean(0).cpu().numpy()
    at = 0
    for one, scores in zip(written, into, strict=True):
        place = slice(at, at + len(one.kept))
        scores.members[:, one.kept] = rewards[:, place]
        if width is not None and scores.width is not None:
            scores.width[one.kept] = width[place]
        at += len(one.kept)


def _said(scores: Scores, written: _Written) -> Scores:
    """With a reason wherever there is no score."""
    finite = np.atleast_1d(np.isfinite(scores.members).all(axis=0))
    reasons = [why or (None if fine else NOT_FINITE) for why, fine in zip(written.reasons, finite, strict=True)]
    scores.members[:, ~finite] = np.nan
    return Scores(scores.members, scores.width, tuple(reasons))
