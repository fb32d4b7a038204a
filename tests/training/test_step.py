"""One optimizer step: its normalisation, its refusals, and its meters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from safetyvalve.errors import NonFiniteLossError, UsageError
from safetyvalve.objectives import rpo_loss
from safetyvalve.training import Forward, Objective, PolicyTrainer, ReferencedExample, Totals
from tests.tiny import tiny_model
from tests.training.helpers import examples

OBJECTIVES = [
    Objective("dpo", beta=0.1),
    Objective("dpo", beta=0.1, label_smoothing=0.1),
    Objective("ipo", beta=0.1),
    Objective("sft"),
    Objective("rpo", beta=0.1, eta=0.3),
    Objective("rpo", beta=0.1, eta=0.3, reduction="sequence_mean"),
    Objective("rpo", beta=0.1, eta=0.3, reduction="batch_token_mean"),
]


def trainer(folder: Path, objective: Objective, budget: int, **kwargs: Any) -> PolicyTrainer:
    model = kwargs.pop("model", None) or tiny_model(seed=1, dtype=kwargs.pop("dtype", torch.float32))
    arguments = TrainingArguments(
        str(folder), use_cpu=True, report_to=[], per_device_train_batch_size=8, remove_unused_columns=False, **kwargs
    )
    return PolicyTrainer(model=model, args=arguments, objective=objective, forward=Forward(token_budget=budget))


def step_gradient(folder: Path, objective: Objective, budget: int, dtype: torch.dtype) -> torch.Tensor:
    batch = examples(tiny_model(seed=0, dtype=dtype))
    run = trainer(folder, objective, budget, dtype=dtype)
    run.training_step(run.model, batch)
    return torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.name}-{o.reduction}-{o.label_smoothing}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_any_split_gives_the_same_gradient(tmp_path: Path, objective: Objective, dtype: torch.dtype) -> None:
    whole = step_gradient(tmp_path, objective, 10_000, dtype)
    assert whole.norm() > 0
    for budget in (1, 60, 100):
        split = step_gradient(tmp_path, objective, budget, dtype)
        assert (split - whole).norm() < 1e-6 * whole.norm()


def test_the_padded_engine_trains_to_the_same_gradient(tmp_path: Path) -> None:
    whole = step_gradient(tmp_path, OBJECTIVES[4], 60, torch.float32)
    batch = examples(tiny_model(seed=0))
    run = trainer(tmp_path, OBJECTIVES[4], 60)
    run.forward = Forward("padded", 60)
    run.training_step(run.model, batch)
    padded = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    assert (padded - whole).norm() < 1e-5 * whole.norm()


def test_dropout_is_off(tmp_path: Path) -> None:
    """GPT-2 has dropout by default; policy equal to reference must have a margin of zero all the same."""
    model = tiny_model("gpt2")
    run = trainer(tmp_path, Objective("dpo", beta=0.1), 100, model=model)
    run.training_step(model, examples(tiny_model("gpt2")))
    assert run._meters["chosen_ratio"] == pytest.approx(0, abs=1e-4)


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    run = trainer(tmp_path, Objective("dpo"), 100)
    with pytest.raises(NonFiniteLossError, match="norm is inf at step 1"):
        run._get_grad_norm(run.model, grad_norm=torch.tensor(float("inf")))


def test_the_splits_are_different() -> None:
    batch = examples(tiny_model())
    assert [len(Forward(token_budget=b).split(batch)) for b in (1, 60, 100, 10_000)] == [5, 4, 2, 1]


def test_loss_equals_the_objective_by_hand(tmp_path: Path) -> None:
    """The weighted mean of rpo_loss over all comparisons of the step."""
    objective = Objective("rpo", beta=0.1, eta=0.3)
    batch = examples(tiny_model(seed=0))
    run = trainer(tmp_path, objective, 60)
    loss = run.training_step(run.model, batch)
    values, weights = [], []
    for example in batch:
        sums = run.terms([example], Totals.of(batch))
        from safetyvalve.trees import response_logps

        policy = response_logps(run.model, [example.tree]).sums().detach()
        for c in example.tokens.comparisons:
            values.append(
                rpo_loss(
                    policy[c.winner][None],
                    policy[c.loser][None],
                    example.ref_logps[c.winner][None],
                    example.ref_logps[c.loser][None],
                    beta=0.1,
                    eta=0.3,
                )
            )
            weights.append(c.weight)
        assert len(sums.weight) == len(example.tokens.comparisons)
    expected = (torch.cat(values) * torch.tensor(weights)).sum() / sum(weights)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_totals_by_hand() -> None:
    totals = Totals.of(examples(tiny_model()))
    weights, lengths = [1, 1, 1, 0.5, 2, 3, 1], [9, 40, 7, 7, 13, 20, 6]
    assert totals.weight == sum(weights)
    assert totals.mean_length == pytest.approx(sum(w * n for w, n in zip(weights, lengths, strict=True)) / sum(weights))


def test_policy_equal_to_reference_starts_at_log_two(tmp_path: Path) -> None:
    model = tiny_model(seed=0)
    run = trainer(tmp_path, Objective("dpo", beta=0.1), 100, model=model)
    loss = run.training_step(model, examples(model))
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)
    assert run._meters["chosen_ratio"] == pytest.approx(0, abs=1e-4)


def test_a_non_finite_loss_names_the_examples_and_changes_nothing(tmp_path: Path) -> None:
    batch = examples(tiny_model(seed=0))
    bad = batch[3]
    batch[3] = ReferencedExample(bad.tokens, bad.ref_logps * float("nan"))
    run = trainer(tmp_path, Objective("dpo"), 1)
    before = [p.clone() for p in run.model.parameters()]
    with pytest.raises(NonFiniteLossError, match="example-3") as error:
        run.training_step(run.model, batch)
    assert error.value.example_ids == ("example-3",)
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_gradient_accumulation_of_the_trainer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gradient_accumulation_steps is 2"):
        trainer(tmp_path, Objective("dpo"), 10, gradient_accumulation_steps=2)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"name": "ppo"}, "objective is 'ppo'; accepted: rpo, dpo, ipo, sft"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"eta": float("inf")}, "eta is inf"),
        ({"reduction": "mean"}, "reduction is 'mean'"),
        ({"label_smoothing": 0.7}, "label_smoothing is 0.7"),
        ({"name": "dpo", "eta": 0.5}, "eta 0.5 has no meaning for the objective 'dpo'"),
        ({"name": "ipo", "reduction": "sum"}, "reduction sum has no meaning"),
        ({"name": "ipo", "label_smoothing": 0.1}, "no meaning for the objective 'ipo'"),
    ],
)
def test_bad_objectives(arguments: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        Objective(**arguments)
