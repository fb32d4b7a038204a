"""TRL's side, with the settings that are best for it here."""

from __future__ import annotations

import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from benchmarks.speed.measuring import Clock, Memory
from benchmarks.speed.workloads import BATCH, Workload, data_hash, examples_of, tokens_of
from safetyvalve.data import PreferenceExample
from safetyvalve.models import load_model
from safetyvalve.rewards import load_start

__all__ = ["trl_side"]


class _TRL:
    """DPOTrainer on the same conversations in the same order; its own tokenization of them is proven to be ours."""

    def __init__(self, workload: Workload, count: int, hh: Path) -> None:
        self.workload = workload
        self.model, tokenizer = load_model("smollm2-135m")
        examples = examples_of(workload, count, hh)
        tokens = tokens_of(workload, examples, tokenizer, count)
        rows = [row for e in examples for row in _pairs(e)]
        self.clock, self.scratch = Clock(), tempfile.TemporaryDirectory()
        self.memory = Memory(self.model, trained=workload.task != "reference")
        pairs_a_step = BATCH * len(rows) // len(examples)
        settings: dict[str, Any] = {
            "bf16": workload.precision == "bf16",
            "gradient_checkpointing": False,
            "precompute_ref_log_probs": True,
            "per_device_train_batch_size": BATCH,
            "gradient_accumulation_steps": pairs_a_step // BATCH,  # the optimizer runs as often as ours
            "max_length": None,
            "train_sampling_strategy": "sequential",
            "loss_type": ["sigmoid"],
            "beta": 0.1,
            "learning_rate": 1e-6,
            "logging_steps": 1,
        }
        begun = time.perf_counter()
        self.trainer = DPOTrainer(
            model=self.model,
            args=DPOConfig(
                self.scratch.name,
                num_train_epochs=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                **settings,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[self.clock],
        )
        self.about: dict[str, Any] = {
            "data": data_hash(tokens),
            "units": len(rows),
            "threads": torch.get_num_threads(),
            "settings": {"trl": version("trl"), "optim": str(self.trainer.args.optim), **settings},
            "preparing": time.perf_counter() - begun,
        }
        self._check_tokens(tokens)

    def _check_tokens(self, tokens: list[Any]) -> None:
        """Its sequences are ours, up to what it writes after the end token."""
        expected = [
            (t.prompt_ids, t.response_ids[c.winner], t.response_ids[c.loser]) for t in tokens for c in t.comparisons
        ]
        for row, (prompt, chosen, rejected) in zip(self.trainer.train_dataset, expected, strict=True):
            assert tuple(row["prompt_ids"]) == prompt
            for ids, ours in ((row["chosen_ids"], chosen), (row["rejected_ids"], rejected)):
                assert tuple(ids[: len(ours)]) == ours and len(ids) <= len(ours) + 1

    def round(self, steps: int | None = None) -> dict[str, float]:
        if self.workload.task == "reference":
            return self._reference_round(steps)
        self.trainer.args.max_steps = steps or -1
        self.trainer.train()
        return self.clock.figures | {"memory": self.memory.above()}

    def _reference_round(self, steps: int | None) -> dict[str, float]:
        """Its pass over the data in the batches of training, without what it does before and after."""
        batches = list(self.trainer.get_train_dataloader())[:steps]
        self.model.eval()
        begun = time.perf_counter()
        for batch in batches:
            self.trainer.compute_ref_log_probs(self.model, batch)
        return {"seconds": time.perf_counter() - begun, "memory": self.memory.above()}


class _Reward:
    """RewardTrainer on the same conversations; it reads a whole conversation, whose template ends with a newline."""

    def __init__(self, workload: Workload, count: int, hh: Path) -> None:
        torch.manual_seed(0)
        start = load_start("smollm2-135m", 1)
        examples = examples_of(workload, count, hh)
        tokens = tokens_of(workload, examples, start.tokenizer, count)
        self.clock, self.scratch = Clock(), tempfile.TemporaryDirectory()
        self.memory = Memory(start.model, trained=True)
        settings: dict[str, Any] = {
            "bf16": workload.precision == "bf16",
            "gradient_checkpointing": False,
            "per_device_train_batch_size": BATCH,
            "max_length": None,
            "train_sampling_strategy": "sequential",
            "learning_rate": 1e-6,
            "logging_steps": 1,
        }
        rows = [row for e in examples for row in _pairs(e)]
        self.trainer = RewardTrainer(
            model=start.model,
            args=RewardConfig(
                self.scratch.name,
                num_train_epochs=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                **settings,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=start.tokenizer,
            callbacks=[self.clock],
        )
        self.about: dict[str, Any] = {
            "data": data_hash(tokens),
            "units": len(rows),
            "threads": torch.get_num_threads(),
            "settings": {"trl": version("trl"), "optim": str(self.trainer.args.optim), **settings},
        }

    def round(self, steps: int | None = None) -> dict[str, float]:
        self.trainer.args.max_steps = steps or -1
        self.trainer.train()
        return self.clock.figures | {"memory": self.memory.above()}


def _pairs(example: PreferenceExample) -> list[dict[str, Any]]:
    prompt = [m.model_dump() for m in example.prompt]

    def answer(index: int) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": example.responses[index].content}]

    return [{"prompt": prompt, "chosen": answer(c.winner), "rejected": answer(c.loser)} for c in example.comparisons]


def trl_side(workload: Workload, count: int, hh: Path) -> Any:
    """With ``about``, and ``round`` over all examples or a few steps."""
    return (_Reward if workload.task == "reward" else _TRL)(workload, count, hh)
