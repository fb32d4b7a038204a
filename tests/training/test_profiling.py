"""Where a step's time goes: the parts add up, and what is counted is counted from shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from safetyvalve.training import Forward, Objective, PolicyTrainer
from safetyvalve.training import memory as memory_module
from safetyvalve.training import profiling as profiling_module
from safetyvalve.training import trainer as trainer_module
from safetyvalve.training.profiling import PARTS, StepProfiler
from safetyvalve.trees import Tree, response_logps
from safetyvalve.trees import decoder as decoder_module
from safetyvalve.trees import tiles as tiles_module
from safetyvalve.trees.work import work_of
from tests.native.both import in_torch
from tests.tiny import random_tree, tiny_model
from tests.training.helpers import referenced, tokenized


def run(folder: Path, steps: int) -> StepProfiler:
    model, forward = tiny_model("smollm3"), Forward(token_budget=40)
    trees = [random_tree(12, 5, 6, seed=i) for i in range(2 * steps)]
    trainer = PolicyTrainer(
        model=model,
        args=TrainingArguments(
            str(folder), per_device_train_batch_size=2, num_train_epochs=1, report_to=[], use_cpu=True,
            save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
        ),
        train_dataset=[referenced(model, tokenized(t, ((0, 1, 1.0),), str(i))) for i, t in enumerate(trees)],
        objective=Objective("dpo"),
        forward=forward,
    )  # fmt: skip
    profiler = StepProfiler(forward, trainer.freed, counted=True)
    trainer.profiler = profiler
    trainer.add_callback(profiler)
    trainer.train()
    return profiler


def test_parts_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling_module.GemmPeak, "measure", lambda _: 1e9)
    found = run(tmp_path, 6).result()
    assert found is not None
    assert found.steps == profiling_module.WATCHED
    assert tuple(found.parts) == PARTS
    assert sum(found.parts.values()) == pytest.approx(found.seconds, rel=1e-6)
    assert all(found.parts[name] > 0 for name in ("products", "attention", "head", "elementwise", "optimizer", "rest"))
    # Two micro-batches of one tree of 23 tokens: 40 tokens hold no second one.
    one = work_of(tiny_model("smollm3"), [random_tree(12, 5, 6)]).training
    assert found.operations == 2 * one
    assert found.utilisation == pytest.approx(2 * one / (1e9 * found.seconds))
    found.write(tmp_path / "profile.json")
    assert json.loads((tmp_path / "profile.json").read_text())["parts"] == found.parts
    assert "utilisation" in found.lines()[1]


def test_watched_steps_meet_no_new_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is handed back before them nor between them, though resident memory grows."""
    steps: list[float] = []
    handed: list[int] = []

    def grown() -> float:
        """Asked for once a step."""
        steps.append(1.2 ** len(steps))
        return steps[-1]

    def hand_back() -> bool:
        handed.append(len(steps))
        return True

    monkeypatch.setattr(trainer_module, "resident_gib", grown)
    monkeypatch.setattr(memory_module, "hand_back", hand_back)
    monkeypatch.setattr(profiling_module.GemmPeak, "measure", lambda _: 1e9)
    last = profiling_module.SKIPPED + profiling_module.WATCHED
    assert run(tmp_path, last + 3).result() is not None
    assert handed == [last + 1, last + 3]


def test_a_run_too_short_has_none(tmp_path: Path) -> None:
    assert run(tmp_path, profiling_module.SKIPPED).result() is None


def counted(model: torch.nn.Module, trees: list[Tree]) -> int:
    """With products by torch, which it sees, and not by our kernels, which it does not."""
    counter = FlopCounterMode(display=False)
    with in_torch(), counter:
        response_logps(model, trees).sums().sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_work_is_what_is_computed(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, counted while they run, with layers written out and with the model's own."""
    model, trees = tiny_model(family), [random_tree(30, 9, 12, seed=1), random_tree(25, 7, 5, seed=2)]
    work = work_of(model, trees)
    found = counted(model, trees)
    # Tiles also compute pairs that are masked; the last layer computes less than its whole.
    assert 0.9 * work.training < found < 1.5 * work.training
    monkeypatch.setattr(decoder_module, "_PLAIN", set())
    assert 0.9 * work.training < counted(model, trees) < 1.5 * work.training


class TestGrowth:
    """Counted, not timed."""

    def test_twice_the_examples_twice_the_work(self) -> None:
        model, trees = tiny_model(), [random_tree(30, 20, 25, seed=i) for i in range(8)]
        assert counted(model, trees) == pytest.approx(2 * counted(model, trees[:4]), rel=1e-9)

    def test_twice_the_tokens_of_a_pair_at_most_2_1_times(self) -> None:
        """In the shapes of SmolLM2 and at the mean lengths of hh-harmless. Attention grows with the square of the
        lengths, and is little beside the products."""
        with torch.device("meta"):
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=49152,
                    hidden_size=576,
                    intermediate_size=1536,
                    num_hidden_layers=30,
                    num_attention_heads=9,
                    num_key_value_heads=3,
                    tie_word_embeddings=True,
                )
            )
        one, two = (work_of(model, [random_tree(145 * n, 42 * n, 51 * n)]).training for n in (1, 2))
        assert 2 * one < two <= 2.1 * one

    def test_spread_of_lengths_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Equal tokens in equal and in unequal responses, below the size at which a tree is cut."""
        model = tiny_model()
        assert counted(model, [random_tree(20, 56, 2, 2)]) == counted(model, [random_tree(20, 20, 20, 20)])
        monkeypatch.setattr(tiles_module, "_WHOLE", 0)
        cut = counted(model, [random_tree(20, 56, 2, 2)])
        assert cut == pytest.approx(counted(model, [random_tree(20, 20, 20, 20)]), rel=0.1)
