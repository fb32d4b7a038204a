"""Losses and gradients against TRL's trainers on the same batch of a tiny model, in fp32.

Two exact implementations differ by rounding: TRL sums a padded row's log-probabilities in fp32, ours a tree's in fp64,
and the forwards order their sums differently. Losses agree within 2e-6 relative, gradients within 5e-6 of their norm;
the largest differences seen are 2e-7 and 6e-7. docs/peers.md says what the conventions are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.objectives import Reduction, peer_settings
from safetyvalve.training import Forward, Objective, ReferencedExample, Totals
from safetyvalve.training.baseline import over_responses
from tests.tiny import random_tree, tiny_model, tiny_tokenizer
from tests.training.helpers import referenced, tokenized

pytest.importorskip("trl", reason="TRL is installed with the extra 'dev'")

LOSS, GRADIENT = 2e-6, 5e-6
UNEQUAL = ((12, 9, 4), (30, 2, 40), (5, 7, 13), (18, 21, 20))
"""Lengths of prompt, chosen, rejected."""
EQUAL = ((12, 10, 10), (30, 10, 10), (5, 10, 10), (18, 10, 10))


class Result(NamedTuple):
    """A step's loss and the gradient of all parameters."""

    loss: float
    gradient: Tensor


def batch(lengths: Sequence[tuple[int, int, int]]) -> list[ReferencedExample]:
    reference = tiny_model(seed=0)
    trees = [random_tree(*n, seed=i + 1) for i, n in enumerate(lengths)]
    return [referenced(reference, tokenized(t, ((0, 1, 1.0),), f"example-{i}")) for i, t in enumerate(trees)]


def ours(objective: Objective, examples: Sequence[ReferencedExample]) -> Result:
    policy, forward, totals = tiny_model(seed=1), Forward(token_budget=10_000), Totals.of(examples)
    with forward.attention(policy):
        sums = forward.sums(policy, [e.tree for e in examples])
        loss = objective.terms(examples, sums, totals).loss(totals)
        loss.backward()
    return Result(loss.item(), _gradient(policy))


def trl_preference(folder: Path, examples: Sequence[ReferencedExample], **settings: Any) -> Result:
    """TRL's DPOTrainer on the examples as one micro-batch."""
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt_ids": list(e.tokens.prompt_ids),
            "chosen_ids": list(e.tokens.response_ids[0]),
            "rejected_ids": list(e.tokens.response_ids[1]),
        }
        for e in examples
    ]
    policy = tiny_model(seed=1)
    trainer = DPOTrainer(
        model=policy,
        ref_model=tiny_model(seed=0),
        args=DPOConfig(str(folder), **_COMMON, **settings),
        train_dataset=_texts("prompt", "chosen", "rejected"),
        processing_class=tiny_tokenizer(),
    )
    loss = trainer.compute_loss(policy, trainer.data_collator(rows))
    loss.backward()
    return Result(loss.item(), _gradient(policy))


def trl_sft(folder: Path, examples: Sequence[ReferencedExample]) -> Result:
    """TRL's SFTTrainer on the chosen responses as one micro-batch, prompts masked."""
    from trl import SFTConfig, SFTTrainer

    rows = []
    for e in examples:
        prompt, response = list(e.tokens.prompt_ids), list(e.tokens.response_ids[0])
        rows.append({"input_ids": prompt + response, "labels": [-100] * len(prompt) + response})
    policy = tiny_model(seed=1)
    trainer = SFTTrainer(
        model=policy,
        args=SFTConfig(str(folder), **_COMMON, completion_only_loss=True),
        train_dataset=_texts("prompt", "completion"),
        processing_class=tiny_tokenizer(),
    )
    loss = trainer.compute_loss(policy, trainer.data_collator(rows))
    loss.backward()
    return Result(loss.item(), _gradient(policy))


_COMMON: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "max_length": None,
    "gradient_checkpointing": False,
}


def _texts(*fields: str) -> Any:
    """A dataset that the constructor asks for; the batches are ours."""
    from datasets import Dataset

    return Dataset.from_list([{f: f"{f} {i}" for f in fields} for i in range(2)])


def _gradient(model: PreTrainedModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def agree(one: Result, other: Result, scale: float = 1.0) -> None:
    """``one`` is ``scale`` times ``other``."""
    assert one.loss == pytest.approx(scale * other.loss, rel=LOSS)
    assert other.gradient.norm() > 0.1
    assert (one.gradient - scale * other.gradient).norm() < GRADIENT * one.gradient.norm()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def test_dpo(tmp_path: Path) -> None:
    data = batch(UNEQUAL)
    agree(ours(Objective("dpo", beta=0.1), data), trl_preference(tmp_path, data, loss_type=["sigmoid"], beta=0.1))


@pytest.mark.parametrize("reduction", ["sum", "batch_token_mean"])
def test_rpo_by_the_setting_that_we_print(tmp_path: Path, reduction: Reduction) -> None:
    """peer_settings, passed to TRL as it stands; eta is chosen so that no digit is lost in print."""
    data = batch(UNEQUAL)
    mean = sum(len(e.tokens.response_ids[0]) for e in data) / len(data)  # 9.75
    eta = 0.4
    printed = peer_settings(0.1, eta, mean_length=mean, reduction=reduction)[0]
    assert printed.trainer == "TRL"
    theirs = trl_preference(tmp_path, data, **_keywords(printed.setting))
    agree(ours(Objective("rpo", beta=0.1, eta=eta, reduction=reduction), data), theirs)


def test_rpo_sequence_mean_equals_only_at_one_length(tmp_path: Path) -> None:
    """The difference that peer_settings names: TRL weighs a long response more."""
    objective = Objective("rpo", beta=0.1, eta=4.0, reduction="sequence_mean")
    printed = peer_settings(0.1, 4.0, mean_length=10, reduction="sequence_mean")[0]
    assert "long response weighs more" in printed.differs
    keywords = _keywords(printed.setting)
    agree(ours(objective, batch(EQUAL)), trl_preference(tmp_path, batch(EQUAL), **keywords))
    mine, theirs = ours(objective, batch(UNEQUAL)), trl_preference(tmp_path, batch(UNEQUAL), **keywords)
    assert abs(mine.loss - theirs.loss) > 1e-3


def test_trl_ignores_label_smoothing_in_the_sigmoid_loss(tmp_path: Path) -> None:
    """What peer_settings says of label smoothing; TRL's 'aot' smooths as we do where a batch has one pair."""
    data = batch(UNEQUAL[:1])
    objective = Objective("dpo", beta=0.1, label_smoothing=0.2)
    plain = trl_preference(tmp_path, data, loss_type=["sigmoid"], beta=0.1)
    given = trl_preference(tmp_path, data, loss_type=["sigmoid"], beta=0.1, label_smoothing=0.2)
    assert given.loss == plain.loss
    assert "no label smoothing of 0.2" in peer_settings(0.1, 0.4, mean_length=9, label_smoothing=0.2)[0].differs
    agree(ours(objective, data), trl_preference(tmp_path, data, loss_type=["aot"], beta=0.1, label_smoothing=0.2))


def test_ipo_is_per_token_in_trl(tmp_path: Path) -> None:
    """TRL divides by lengths: at one length L its loss is ours at beta / L, over L squared; else none of ours."""
    length, data = 10, batch(EQUAL)
    theirs = trl_preference(tmp_path, data, loss_type=["ipo"], beta=0.1)
    agree(theirs, ours(Objective("ipo", beta=0.1 / length), data), scale=1 / length**2)
    other = trl_preference(tmp_path, batch(UNEQUAL), loss_type=["ipo"], beta=0.1).gradient
    mine = ours(Objective("ipo", beta=0.1 / length), batch(UNEQUAL)).gradient
    assert torch.nn.functional.cosine_similarity(mine, other, dim=0) < 0.95


def test_sft(tmp_path: Path) -> None:
    """TRL's SFTTrainer takes the mean over the tokens of a micro-batch: our batch_token_mean."""
    data = batch(UNEQUAL)
    alone = [
        ReferencedExample(
            over_responses(e.tokens._replace(response_ids=e.tokens.response_ids[:1], comparisons=())), e.ref_logps[:1]
        )
        for e in data
    ]
    theirs = trl_sft(tmp_path, data)
    agree(ours(Objective("sft", reduction="batch_token_mean"), alone), theirs)
    agree(ours(Objective("sft"), alone), theirs, scale=39 / 4)  # the sum: 39 tokens in 4 responses


def _keywords(setting: str) -> dict[str, Any]:
    return dict(eval(f"dict({setting})", {"__builtins__": {"dict": dict}}))
