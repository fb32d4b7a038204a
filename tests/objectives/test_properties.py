"""Limits, invariances, gradients in float64 and refusals of the objectives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from safetyvalve.errors import UsageError
from safetyvalve.objectives import (
    PREFERENCE_LOSSES,
    dpo_loss,
    effective_token_weight,
    ipo_loss,
    parity_margin,
    peer_settings,
    rpo_loss,
    sft_loss,
)

logp = st.floats(-300, -0.01)


def vectors(*rows: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


PAIR = vectors([-10.0, -30.5], [-12.0, -20.0], [-11.0, -29.0], [-11.5, -22.0])


@pytest.mark.parametrize(
    "loss",
    [
        lambda *a: dpo_loss(*a, beta=0.3),
        lambda *a: dpo_loss(*a, beta=0.3, label_smoothing=0.1),
        lambda *a: ipo_loss(*a, beta=0.3),
        lambda *a: rpo_loss(*a, beta=0.3, eta=0.2),
        lambda *a: rpo_loss(
            *a, beta=0.3, eta=0.2, reduction="sequence_mean", baseline_lengths=torch.tensor([3.0, 7.0]).double()
        ),
        lambda *a: rpo_loss(*a, beta=0.3, eta=0.2, reduction="batch_token_mean", mean_length=5.0),
    ],
)
def test_gradcheck(loss: Any) -> None:
    inputs = [t.clone().requires_grad_() for t in PAIR]
    assert torch.autograd.gradcheck(loss, inputs)


@given(logp, logp, logp, logp, st.floats(0.001, 2.0))
def test_dpo_is_bradley_terry(pc: float, pr: float, rc: float, rr: float, beta: float) -> None:
    """The two orders of a pair are the two outcomes: their probabilities add to one."""
    a, b, c, d = vectors([pc], [pr], [rc], [rr])
    one, other = dpo_loss(a, b, c, d, beta=beta), dpo_loss(b, a, d, c, beta=beta)
    assert (torch.exp(-one) + torch.exp(-other)).item() == pytest.approx(1.0, abs=1e-9)


@given(logp, logp, st.floats(-50, 50))
def test_invariant_to_a_constant_of_the_prompt(pc: float, pr: float, shift: float) -> None:
    a, b, c, d = vectors([pc], [pr], [-20.0], [-25.0])
    for loss in PREFERENCE_LOSSES.values():
        moved = loss(a + shift, b + shift, c, d, beta=0.1)
        assert moved.item() == pytest.approx(loss(a, b, c, d, beta=0.1).item(), rel=1e-8, abs=1e-8)


def test_limits() -> None:
    same = vectors([-5.0], [-5.0], [-5.0], [-5.0])
    assert dpo_loss(*same, beta=0.7).item() == pytest.approx(math.log(2))
    assert ipo_loss(*same, beta=0.5).item() == pytest.approx(1.0)
    assert torch.equal(rpo_loss(*PAIR, beta=0.3, eta=0.0), dpo_loss(*PAIR, beta=0.3))
    far = vectors([-1e4], [0.0], [0.0], [0.0])
    assert dpo_loss(*far, beta=1.0).item() == pytest.approx(1e4)
    assert torch.isfinite(dpo_loss(*(t.float() for t in far), beta=1.0)).all()


def test_label_smoothing_by_hand() -> None:
    a, b, c, d = vectors([-1.0], [-2.0], [-1.0], [-1.0])  # margin 0.5 at beta 0.5
    expected = 0.9 * math.log1p(math.exp(-0.5)) + 0.1 * math.log1p(math.exp(0.5))
    assert dpo_loss(a, b, c, d, beta=0.5, label_smoothing=0.1).item() == pytest.approx(expected)


def test_batch_token_mean_pools_over_the_step() -> None:
    """Averaged over responses it is the token mean of the step, however the step is split."""
    logps, lengths = vectors([-12.0, -40.0, -3.0], [6.0, 20.0, 1.0])
    mean_length = lengths.mean().item()
    pooled = (-logps.sum() / lengths.sum()).item()
    whole = sft_loss(logps, reduction="batch_token_mean", mean_length=mean_length).mean().item()
    parts = [sft_loss(t, reduction="batch_token_mean", mean_length=mean_length).sum() for t in logps.split([1, 2])]
    assert whole == pytest.approx(pooled)
    assert (sum(parts) / 3).item() == pytest.approx(pooled)


class TestWeights:
    def test_parity_margin_of_the_paper(self) -> None:
        assert parity_margin(0.005) == pytest.approx(5.293, abs=1e-3)

    def test_parity_margin_is_where_the_gradients_meet(self) -> None:
        eta, beta = 0.2, 0.05
        margin = parity_margin(eta)
        chosen = torch.tensor([-20.0 + margin / beta], dtype=torch.float64, requires_grad=True)
        rest = vectors([-20.0], [-20.0], [-20.0])
        (preference,) = torch.autograd.grad(dpo_loss(chosen, *rest, beta=beta).sum(), chosen)
        (sft,) = torch.autograd.grad(eta * beta * sft_loss(chosen).sum(), chosen)
        assert preference.item() == pytest.approx(sft.item())

    def test_label_smoothing_moves_it(self) -> None:
        eta, beta, smoothing = 0.005, 0.05, 0.1
        margin = parity_margin(eta, label_smoothing=smoothing)
        chosen = torch.tensor([-20.0 + margin / beta], dtype=torch.float64, requires_grad=True)
        rest = vectors([-20.0], [-20.0], [-20.0])
        loss = dpo_loss(chosen, *rest, beta=beta, label_smoothing=smoothing)
        (preference,) = torch.autograd.grad(loss.sum(), chosen)
        assert preference.item() == pytest.approx(-eta * beta)

    def test_edges(self) -> None:
        assert parity_margin(0.0) == math.inf
        assert parity_margin(1.0) == -math.inf
        assert parity_margin(1.0, mean_length=10, reduction="sequence_mean") == pytest.approx(math.log(9))

    def test_token_weight(self) -> None:
        assert effective_token_weight(0.05, 0.2, mean_length=50) == pytest.approx(0.01)
        assert effective_token_weight(0.05, 0.2, mean_length=50, reduction="batch_token_mean") == pytest.approx(0.0002)

    def test_the_peer_recipe_equals_the_paper_at_one_length_only(self) -> None:
        """TRL's weight of 0.005 at beta 0.01 is eta 0.005 exactly when responses have 100 tokens."""
        trl = peer_settings(0.01, 0.005, mean_length=100)[0]
        assert trl.trainer == "TRL"
        assert "loss_weights=[1.0,0.005]" in trl.setting
        assert "loss_weights=[1.0,0.0025]" in peer_settings(0.01, 0.005, mean_length=50)[0].setting


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: dpo_loss(*PAIR, beta=-0.1), "beta is -0.1"),
        (lambda: dpo_loss(*PAIR, beta=math.nan), "beta is nan"),
        (lambda: ipo_loss(*PAIR, beta=0.0), "beta is 0.0"),
        (lambda: dpo_loss(*PAIR, beta=0.1, label_smoothing=0.5), "label_smoothing is 0.5"),
        (lambda: rpo_loss(*PAIR, beta=0.1, eta=-1.0), "eta is -1.0"),
        (lambda: rpo_loss(*PAIR, beta=0.1, eta=1.0, reduction="sequence_mean"), "needs lengths"),
        (lambda: rpo_loss(*PAIR, beta=0.1, eta=1.0, reduction="batch_token_mean"), "needs mean_length"),
        (lambda: parity_margin(0.1, mean_length=0.0), "mean_length is 0.0"),
    ],
)
def test_refusals_name_the_value(call: Any, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        call()


def test_unequal_pairs_are_refused() -> None:
    short = PAIR[1][:1]
    with pytest.raises((UsageError, TypeCheckError)):
        dpo_loss(PAIR[0], short, *PAIR[2:], beta=0.1)
