"""The plan of a packed row as a FlexAttention block mask, for GPUs: blocks that no token may see are skipped.

Its log-probabilities are held exact on the CPU, where FlexAttention runs uncompiled and has no backward pass. It was
never timed, and its gradients were never run.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from safetyvalve.trees.plan import PackedRow, PositionRule, causal

__all__ = ["block_mask", "flex_row"]


def block_mask(row: PackedRow, rule: PositionRule = causal, *, block_size: int = 128) -> BlockMask:
    """Which tokens of the whole row see which: those of their own tree that its plan and ``rule`` allow.

    Args:
        row: the plan.
        rule: of the layer, see :class:`safetyvalve.trees.plan.PositionRule`.
        block_size: tokens a block, in both directions.
    """
    tree = torch.cat([s.positions.new_full((s.stop - s.start,), i) for i, s in enumerate(row.segments)])
    branch = torch.cat([s.branch for s in row.segments])
    root = torch.cat([s.positions.new_full((s.stop - s.start,), s.root) for s in row.segments])
    place = row.position_ids

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (branch[key] == 0) | (branch[key] == branch[query])
        own = ((tree[query] == tree[key]) & own) | (key < root[query])
        return own & rule(batch, head, place[query], place[key])

    length = len(row.input_ids)
    return create_block_mask(
        allowed, B=None, H=None, Q_LEN=length, KV_LEN=length, device=place.device, BLOCK_SIZE=block_size
    )


def flex_row(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, *, scaling: float, softcap: float | None = None
) -> Tensor:
    """Attention of a whole row: query [1, head, token, dim], key and value [1, kv head, token, dim] -> as query."""

    def capped(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert softcap is not None
        return torch.tanh(score / softcap) * softcap

    score_mod = None if softcap is None else capped
    out = flex_attention(query, key, value, score_mod=score_mod, block_mask=mask, scale=scaling, enable_gqa=True)
    assert isinstance(out, Tensor)
    return out
