"""The plain forward: one padded row a response, full logits. It is what the shared-prefix forward is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.trees.plan import Tree
from safetyvalve.trees.support import check_length

__all__ = ["padded_logits", "padded_logps"]


def padded_logps(model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
    """Log-probabilities of all response tokens, in the order of :class:`safetyvalve.trees.PackedRow`.

    Returns:
        [token], in nats, differentiable.
    """
    target = torch.tensor([t for tree in trees for response in tree.response_ids for t in response])
    logps = padded_logits(model, trees).log_softmax(-1)
    return logps.gather(-1, target.to(logps.device)[:, None])[:, 0]


def padded_logits(model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
    """[token, vocabulary]: logits that predict each response token, fp32 or fp64.

    Each row is a prompt followed by one response, padded on the right; nothing is shared and nothing is chunked.
    """
    rows = [(tree.prompt_ids, response) for tree in trees for response in tree.response_ids]
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    check_length(model, longest)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for index, (prompt, response) in enumerate(rows):
        length = len(prompt) + len(response)
        ids[index, :length] = torch.tensor([*prompt, *response])
        mask[index, :length] = 1
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.cat(
        [logits[i, len(prompt) - 1 : len(prompt) + len(response) - 1] for i, (prompt, response) in enumerate(rows)]
    )
