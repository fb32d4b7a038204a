"""Our side: the shipped trainer and reference pass."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from benchmarks.speed.measuring import Clock, Memory
from benchmarks.speed.workloads import BATCH, Workload, data_hash, examples_of, tokens_of
from safetyvalve.data import TokenizedExample
from safetyvalve.models import load_model
from safetyvalve.rewards import RewardModel, load_start
from safetyvalve.training import Forward, Objective, PolicyTrainer, ReferencedExample
from safetyvalve.training.peak import GemmPeak
from safetyvalve.training.reward.examples import RewardExample
from safetyvalve.training.reward.settings import Learning
from safetyvalve.training.reward.trainer import RewardTrainer
from safetyvalve.trees import ReferenceCache, Tree
from safetyvalve.trees.work import work_of

__all__ = ["our_side"]

BUDGET = 2048


class _Prepared:
    """Model and data loaded, nothing computed."""

    def __init__(self, workload: Workload, count: int, hh: Path, *, padded: bool) -> None:
        self.workload = workload
        self.model, tokenizer = load_model("smollm2-135m")
        self.tokens = tokens_of(workload, examples_of(workload, count, hh), tokenizer, count)
        self.trees = [Tree(t.prompt_ids, t.response_ids) for t in self.tokens]
        autocast = torch.bfloat16 if workload.precision == "bf16" else None
        self.forward = Forward("padded" if padded else "tree", BUDGET, autocast)
        self.peak = GemmPeak(autocast or torch.float32) if workload.task == "train" else None
        self.memory = Memory(self.model, trained=workload.task != "reference")
        comparisons = sum(len(t.comparisons) for t in self.tokens)
        self.about: dict[str, Any] = {
            "data": data_hash(self.tokens),
            "units": comparisons,
            "threads": torch.get_num_threads(),
            "settings": {"token_budget": BUDGET, "engine": self.forward.engine, "prompts_per_step": BATCH},
        }


class _Training(_Prepared):
    def __init__(self, workload: Workload, count: int, hh: Path, *, padded: bool) -> None:
        super().__init__(workload, count, hh, padded=padded)
        examples = _referenced(self.model, self.tokens, self.trees, self.forward)
        self.clock, self.scratch = Clock(self.peak), tempfile.TemporaryDirectory()
        steps = [self.trees[i : i + BATCH] for i in range(0, len(self.trees), BATCH)]
        self.about["operations"] = sum(work_of(self.model, step).training for step in steps)
        self.trainer = PolicyTrainer(
            model=self.model,
            args=training_arguments(Path(self.scratch.name)),
            train_dataset=examples,
            objective=Objective("dpo", beta=0.1),
            forward=self.forward,
            callbacks=[self.clock],
        )

    def round(self, steps: int | None = None) -> dict[str, float]:
        self.trainer.args.max_steps = steps or -1
        self.trainer.train()
        return self.clock.figures | {"memory": self.memory.above()}


class _Reward:
    """The shipped reward trainer, one member."""

    def __init__(self, workload: Workload, count: int, hh: Path) -> None:
        torch.manual_seed(0)
        start = load_start("smollm2-135m", 1)
        self.tokens = tokens_of(workload, examples_of(workload, count, hh), start.tokenizer, count)
        autocast = torch.bfloat16 if workload.precision == "bf16" else None
        forward = Forward("tree", BUDGET, autocast)
        self.clock, self.scratch = Clock(), tempfile.TemporaryDirectory()
        model = RewardModel([start.model], start.tokenizer, engine="tree")
        self.memory = Memory(model, trained=True)
        self.trainer = RewardTrainer(
            model=model,
            args=training_arguments(Path(self.scratch.name)),
            train_dataset=[RewardExample(t, (1.0,)) for t in self.tokens],
            learning=Learning(),
            forward=forward,
            callbacks=[self.clock],
        )
        self.about: dict[str, Any] = {
            "data": data_hash(self.tokens),
            "units": sum(len(t.comparisons) for t in self.tokens),
            "threads": torch.get_num_threads(),
            "settings": {"token_budget": BUDGET, "engine": "tree", "prompts_per_step": BATCH},
        }

    def round(self, steps: int | None = None) -> dict[str, float]:
        self.trainer.args.max_steps = steps or -1
        self.trainer.train()
        return self.clock.figures | {"memory": self.memory.above()}


class _Reference(_Prepared):
    def round(self, steps: int | None = None) -> dict[str, float]:
        trees = self.trees[: steps and steps * BATCH]
        begun = time.perf_counter()
        _sums(self.model, trees, self.forward)
        return {"seconds": time.perf_counter() - begun, "memory": self.memory.above()}


def our_side(workload: Workload, count: int, hh: Path, *, padded: bool) -> Any:
    """With ``about``, and ``round`` over all examples or a few steps."""
    if workload.task == "reward":
        return _Reward(workload, count, hh)
    kind = {"train": _Training, "reference": _Reference}[workload.task]
    return kind(workload, count, hh, padded=padded)


def training_arguments(folder: Path) -> TrainingArguments:
    """One pass in file order."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-6,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
    )


def _referenced(
    model: PreTrainedModel, tokens: list[TokenizedExample], trees: list[Tree], forward: Forward
) -> list[ReferencedExample]:
    sums = _sums(model, trees, forward)
    return [ReferencedExample(t, s) for t, s in zip(tokens, sums, strict=True)]


def _sums(model: PreTrainedModel, trees: list[Tree], forward: Forward) -> list[torch.Tensor]:
    return ReferenceCache(None).sums(
        model, trees, engine=forward.engine, token_budget=forward.token_budget, autocast=forward.autocast
    )
