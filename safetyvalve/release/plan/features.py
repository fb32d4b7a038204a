"""Features of responses for the probe: sentence embeddings, or the frozen hidden states of a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import Encoder, PreferenceExample, opening_turn, tokenize_examples
from safetyvalve.data.coverage import Caution, other_script, reading_cautions
from safetyvalve.errors import EngineError
from safetyvalve.stats.clusters import Floats
from safetyvalve.trees import Tree, choose_engine, pack_by_budget, pack_row
from safetyvalve.trees.forward import packed_hidden_states

__all__ = ["ProbeData", "Reader", "embedded", "hidden_states"]

BUDGET = 2048


class ProbeData(NamedTuple):
    """Comparisons as the probe sees them."""

    examples: list[PreferenceExample]
    """Those that were read."""
    differences: Floats
    """[comparison, feature]: of the preferred response less the other."""
    owner: list[int]
    """[comparison]: place in ``examples``."""
    left_out: int
    """Examples that the model cannot read: too long for its context, or with its special tokens as text."""
    cautions: list[Caution]

    @property
    def conversations(self) -> list[str]:
        """[comparison]: opening turn, the unit that is never divided."""
        turns = [opening_turn(e) for e in self.examples]
        return [turns[i] for i in self.owner]


Reader = Callable[[Sequence[PreferenceExample]], ProbeData]


def embedded(examples: Sequence[PreferenceExample], encoder: Encoder) -> ProbeData:
    """Sentence embeddings of the responses alone; the prompt is the same on both sides of a comparison."""
    texts = [r.content for e in examples for r in e.responses]
    found = encoder(texts)
    cautions = reading_cautions(encoder, found.unknown, other_script(texts), found.cut / len(texts))
    return _compared(list(examples), found.vectors.astype(np.float64), 0, cautions)


@torch.no_grad()
def hidden_states(
    examples: Sequence[PreferenceExample],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    autocast: torch.dtype | None = torch.bfloat16,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeData:
    """The model's last hidden states, averaged over each response's tokens, each prompt computed once.

    Args:
        examples: those longer than ``max_length`` are left out and counted.
        model: frozen, left in evaluation mode.
        tokenizer: of the model.
        max_length: its context, in tokens.
        autocast: the type to compute in, or None for the parameters' own.
        progress: called with examples done and their total.

    Raises:
        EngineError: the shared-prefix forward is not exact for this model.
    """
    done = tokenize_examples(examples, tokenizer, max_length=max_length, on_long="drop")
    trees = [Tree(t.prompt_ids, t.response_ids) for t in done.examples]
    model.eval()
    if trees:
        _require_exact(model, trees)
    found: list[torch.Tensor] = [torch.empty(0)] * len(trees)
    finished = 0
    for group in pack_by_budget([t.n_tokens for t in trees], BUDGET):
        row = pack_row([trees[i] for i in group], model.device)
        with torch.autocast(model.device.type, dtype=autocast, enabled=autocast is not None):
            hidden = packed_hidden_states(model, row).float()
        for i, segment in zip(group, row.segments, strict=True):
            states = hidden[segment.start : segment.stop]
            branches = range(1, len(trees[i].response_ids) + 1)
            found[i] = torch.stack([states[segment.branch == k].mean(0) for k in branches]).cpu()
        finished += len(group)
        if progress is not None:
            progress(finished, len(trees))
    vectors = torch.cat(found).double().numpy() if found else np.empty((0, 0))
    return _compared(done.kept, vectors, len(done.dropped), [])


def _require_exact(model: PreTrainedModel, trees: Sequence[Tree]) -> None:
    order = sorted(trees, key=lambda t: t.n_tokens)
    try:
        choose_engine(model, [order[i] for i in sorted({0, len(order) // 2, len(order) - 1})], wanted="tree")
    except EngineError as error:
        raise EngineError(f"the hidden-state probe cannot be made: {error} Take --probe embedding.") from None


def _compared(examples: list[PreferenceExample], vectors: Floats, left_out: int, cautions: list[Caution]) -> ProbeData:
    starts = [0, *accumulate(len(e.responses) for e in examples)]
    owner = [i for i, e in enumerate(examples) for _ in e.comparisons]
    winners = [starts[i] + c.winner for i, e in enumerate(examples) for c in e.comparisons]
    losers = [starts[i] + c.loser for i, e in enumerate(examples) for c in e.comparisons]
    return ProbeData(examples, vectors[winners] - vectors[losers], owner, left_out, cautions)
