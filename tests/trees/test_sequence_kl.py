"""KL along responses, against the definition computed from full logits."""

from __future__ import annotations

import pytest
import torch

from safetyvalve.errors import UsageError
from safetyvalve.trees import response_logps, sequence_kl
from safetyvalve.trees.padded import padded_logits
from tests.tiny import random_tree, tiny_model

TREES = [random_tree(11, 7, 9, seed=1), random_tree(4, 6, seed=2)]


@pytest.mark.parametrize("engine", ["tree", "padded"])
def test_definition(engine: str) -> None:
    policy, reference = tiny_model(seed=0), tiny_model(seed=1)
    got = sequence_kl(policy, reference, TREES, engine=engine, chunk=4)
    with torch.no_grad():
        p, q = (padded_logits(m, TREES).double().softmax(-1) for m in (policy, reference))
        per_token = (p * (p / q).log()).sum(-1)
        expected = torch.stack([part.sum() for part in per_token.split([7, 9, 6])])
        ratio = response_logps(policy, TREES).sums() - response_logps(reference, TREES).sums()
    torch.testing.assert_close(got.kl, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.log_ratio.float(), ratio, rtol=1e-4, atol=1e-4)
    assert (got.kl > 0).all()


def test_zero_for_equal_models() -> None:
    result = sequence_kl(tiny_model(), tiny_model(), TREES)
    assert result.kl.abs().max() == 0
    assert result.log_ratio.abs().max() == 0


def test_other_vocabulary() -> None:
    other = tiny_model()
    other.config.vocab_size += 1
    with pytest.raises(UsageError, match="vocabularies"):
        sequence_kl(tiny_model(), other, TREES)
