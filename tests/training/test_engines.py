"""Losses of every objective and their gradients: shared prefix against plain, any split, recomputed or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safetyvalve.training import Forward, Objective, ReferencedExample, Totals
from tests.tiny import random_tree, tiny_model
from tests.training.helpers import examples, referenced, tokenized

OBJECTIVES = [
    Objective("dpo", beta=0.1),
    Objective("dpo", beta=0.1, label_smoothing=0.1),
    Objective("ipo", beta=0.1),
    Objective("rpo", beta=0.1, eta=0.3),
    Objective("rpo", beta=0.1, eta=0.3, reduction="batch_token_mean"),
    Objective("sft", reduction="sequence_mean"),
]


def data() -> list[ReferencedExample]:
    reference = tiny_model(seed=1)
    ranking = tuple((i, j, 1.0) for i in range(16) for j in range(i + 1, 16, 5))
    many = tokenized(random_tree(12, *[1 + i for i in range(16)], seed=9), ranking, "sixteen")
    one = tokenized(random_tree(1, 1, 1, seed=10), ((1, 0, 1.0),), "one-token")
    return [*examples(reference), referenced(reference, many), referenced(reference, one)]


def step(objective: Objective, forward: Forward) -> tuple[float, torch.Tensor]:
    """Loss of one optimizer step and its gradient as one vector."""
    model = tiny_model()
    batch = data()
    totals, loss = Totals.of(batch), 0.0
    with forward.attention(model):
        for group in forward.split(batch):
            sums = forward.sums(model, [e.tree for e in group])
            part = objective.terms(group, sums, totals).loss(totals)
            part.backward()
            loss += float(part.detach())
    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.name}-{o.reduction}-{o.label_smoothing}")
class TestLosses:
    @pytest.mark.parametrize("changes", [{}, {"token_budget": 60}, {"recompute": True}])
    def test_fp32(self, objective: Objective, changes: dict[str, Any]) -> None:
        plain = step(objective, Forward("padded"))
        tree = step(objective, Forward("tree", **changes))
        assert tree[0] == pytest.approx(plain[0], rel=1e-5)
        assert (tree[1] - plain[1]).norm() < 1e-5 * plain[1].norm()

    def test_bf16(self, objective: Objective) -> None:
        exact = step(objective, Forward("padded"))
        plain = step(objective, Forward("padded", autocast=torch.bfloat16))
        tree = step(objective, Forward("tree", autocast=torch.bfloat16))
        assert (tree[1] - exact[1]).norm() < 1.5 * (plain[1] - exact[1]).norm()
        assert abs(tree[0] - exact[0]) < 0.02 * abs(exact[0])
