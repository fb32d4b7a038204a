"""Held-out metrics against direct computation."""

from __future__ import annotations

import pytest
import torch

from safetyvalve.training import Forward, HeldOutMeter, Objective, Totals
from safetyvalve.trees import response_logps
from tests.tiny import tiny_model
from tests.training.helpers import examples

OBJECTIVE = Objective("rpo", beta=0.1, eta=0.3)


def meter(objective: Objective = OBJECTIVE, budget: int = 60) -> HeldOutMeter:
    return HeldOutMeter(examples(tiny_model(seed=0)), objective, Forward(token_budget=budget), grad_examples=3)


def test_displacement_by_hand() -> None:
    policy, data = tiny_model(seed=1), examples(tiny_model(seed=0))
    got = meter().measure(policy)
    total = tokens = weight = 0.0
    for example in data:
        change = response_logps(policy, [example.tree]).sums().detach() - example.ref_logps
        for c in example.tokens.comparisons:
            total += c.weight * float(change[c.winner])
            tokens += c.weight * len(example.tokens.response_ids[c.winner])
            weight += c.weight
    assert got["held_out/chosen_displacement"] == pytest.approx(total / weight, rel=1e-4)
    assert got["held_out/chosen_displacement_per_token"] == pytest.approx(total / tokens, rel=1e-4)


def test_gradient_norms_by_hand() -> None:
    policy, data = tiny_model(seed=1), examples(tiny_model(seed=0))[:3]
    got = meter().measure(policy)
    sums = response_logps(policy, [e.tree for e in data]).sums()
    terms = OBJECTIVE.terms(data, sums, Totals.of(data))
    for name, weight in (("preference", terms.weight), ("sft", terms.mass)):
        value = (weight * getattr(terms, name)).sum() / weight.sum()
        gradient = torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)
        norm = torch.cat([g.flatten() for g in gradient]).norm()
        assert got[f"held_out/{name}_grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_the_sft_term_of_dpo_is_zero() -> None:
    got = meter(Objective("dpo", beta=0.1)).measure(tiny_model(seed=1))
    assert got["held_out/sft_term"] == 0
    assert got["held_out/sft_grad_norm"] == 0
    assert got["held_out/preference_grad_norm"] > 0


def test_leaves_mode_and_gradients_alone() -> None:
    policy = tiny_model(seed=1).train()
    meter().measure(policy)
    assert policy.training
    assert all(p.grad is None for p in policy.parameters())


def test_the_budget_changes_nothing() -> None:
    one, other = meter(budget=1).measure(tiny_model(seed=1)), meter(budget=10_000).measure(tiny_model(seed=1))
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_nothing_held_out() -> None:
    assert HeldOutMeter([], OBJECTIVE, Forward()).measure(tiny_model()) == {}


def test_gradients_that_are_there_stay() -> None:
    policy = tiny_model(seed=1)
    before = [torch.ones_like(p) for p in policy.parameters()]
    for p, gradient in zip(policy.parameters(), before, strict=True):
        p.grad = gradient
    got = meter().measure(policy)
    assert all(p.grad is gradient for p, gradient in zip(policy.parameters(), before, strict=True))
    assert all(bool((gradient == 1).all()) for gradient in before)
    assert got == pytest.approx(meter().measure(tiny_model(seed=1)))
