"""The Bradley-Terry loss of rewards: hand-worked values, invariances, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from safetyvalve.errors import UsageError
from safetyvalve.objectives import bradley_terry_loss


def test_by_hand() -> None:
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])
    expected = [math.log(1 + math.exp(-1)), math.log(2)]
    assert bradley_terry_loss(chosen, rejected).tolist() == pytest.approx(expected)
    with_margin = bradley_terry_loss(chosen, rejected, margin=torch.tensor([1.0, 0.5]))
    assert with_margin.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(0.5))])
    centered = bradley_terry_loss(chosen, rejected, centering=0.1)
    assert centered.tolist() == pytest.approx([expected[0] + 0.9, expected[1]])


def test_a_constant_added_to_both_matters_to_the_centering_alone() -> None:
    chosen, rejected = torch.randn(3, 5), torch.randn(3, 5)
    plain = bradley_terry_loss(chosen, rejected, margin=0.3)
    assert torch.allclose(plain, bradley_terry_loss(chosen + 7, rejected + 7, margin=0.3), atol=1e-5)
    moved = bradley_terry_loss(chosen + 7, rejected + 7, centering=0.1)
    assert (moved > bradley_terry_loss(chosen, rejected, centering=0.1)).all()


def test_finite_where_the_naive_formula_is_not() -> None:
    loss = bradley_terry_loss(torch.tensor([-500.0]), torch.tensor([500.0]))
    assert loss.item() == pytest.approx(1000.0)


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = (torch.randn(4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in "ab")
    assert torch.autograd.gradcheck(
        lambda c, r: bradley_terry_loss(c, r, margin=0.2, centering=0.3), (chosen, rejected)
    )


def test_refused() -> None:
    pair = torch.zeros(2)
    for margin in (-1.0, math.nan):
        with pytest.raises(UsageError, match="margin"):
            bradley_terry_loss(pair, pair, margin=margin)
    with pytest.raises(UsageError, match="centering"):
        bradley_terry_loss(pair, pair, centering=-0.1)
