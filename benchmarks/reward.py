"""Reward training against TRL's RewardTrainer: the same pairs in the same order, one pass, alternating in one process.

    python benchmarks/reward.py --data FILE [--pairs 24] [--rounds 3] [--precision bf16]

Full fine-tuning of SmolLM2-135M with a scalar head, AdamW, eight pairs a step on both sides. TRL has no gradient
checkpointing, no length limit, and micro-batches of four (``--trl-batch``), which pads less. Prints seconds a pair,
each side's spread and the ratio of medians. Give it the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from safetyvalve.cli.allocator import keep_freed_memory

    keep_freed_memory()

import torch
from transformers.trainer_callback import TrainerCallback

from safetyvalve.data import PreferenceExample, choose_examples, load_preferences, tokenize_examples
from safetyvalve.rewards import RewardModel, load_start
from safetyvalve.training import Forward, Optimization
from safetyvalve.training.reward import Learning, RewardExample, RewardTrainer
from safetyvalve.training.run import trainer_arguments
from safetyvalve.training.trackers import Trackers
from safetyvalve.trees import Tree

BATCH = 8
BUDGET = 2048
MODEL = "smollm2-135m"


class Clock(TrainerCallback):
    """Seconds from the first step to the last."""

    seconds = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._begun = time.perf_counter()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self._begun


class Ours:
    """The shipped reward trainer."""

    def __init__(self, examples: Sequence[PreferenceExample], precision: str) -> None:
        torch.manual_seed(0)
        start = load_start(MODEL, 1)
        tokens = tokenize_examples(examples, start.tokenizer).examples
        assert len(tokens) == len(examples)
        o = Optimization(
            steps=len(tokens) // BATCH,
            prompts_per_step=BATCH,
            learning_rate=1e-6,
            precision=precision,
            token_budget=BUDGET,
        )
        model = RewardModel([start.model], start.tokenizer)
        trees = [Tree(t.prompt_ids, t.response_ids) for t in tokens]
        self.about = {"engine": model.choose_engine(trees[:2]).engine, "tokens": sum(t.n_tokens for t in trees)}
        self.clock, self.scratch = Clock(), tempfile.TemporaryDirectory()
        arguments = trainer_arguments(Path(self.scratch.name), o, Trackers())
        arguments.train_sampling_strategy = "sequential"
        self.trainer = RewardTrainer(
            model=model,
            args=arguments,
            train_dataset=[RewardExample(t, (1.0,)) for t in tokens],
            learning=Learning(),
            forward=Forward.of("tree", o),
            callbacks=[self.clock],
        )

    def round(self) -> float:
        """Seconds of one pass."""
        self.trainer.train()
        return self.clock.seconds


class TRL:
    """TRL's RewardTrainer."""

    def __init__(self, examples: Sequence[PreferenceExample], precision: str, batch: int) -> None:
        from datasets import Dataset
        from trl import RewardConfig
        from trl import RewardTrainer as TheirTrainer

        torch.manual_seed(0)
        start = load_start(MODEL, 1)
        settings: dict[str, Any] = {
            "bf16": precision == "bf16",
            "gradient_checkpointing": False,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": BATCH // batch,
            "max_length": None,
            "learning_rate": 1e-6,
            "train_sampling_strategy": "sequential",
        }
        self.about = {"trl": version("trl"), **settings}
        self.clock, self.scratch = Clock(), tempfile.TemporaryDirectory()
        self.trainer = TheirTrainer(
            model=start.model,
            args=RewardConfig(
                self.scratch.name,
                max_steps=len(examples) // BATCH,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                **settings,
            ),
            train_dataset=Dataset.from_list([_row(e) for e in examples]),
            processing_class=start.tokenizer,
            callbacks=[self.clock],
        )

    def round(self) -> float:
        """Seconds of one pass."""
        self.trainer.train()
        return self.clock.seconds


def _row(example: PreferenceExample) -> dict[str, Any]:
    (one,) = example.comparisons
    answers = [[{"role": "assistant", "content": example.responses[i].content}] for i in (one.winner, one.loser)]
    return {"prompt": [m.model_dump() for m in example.prompt], "chosen": answers[0], "rejected": answers[1]}


def reward_training(
    data: Path, *, pairs: int = 24, rounds: int = 3, precision: str = "bf16", trl_batch: int = 4
) -> dict[str, Any]:
    """Seconds a pair of both sides and the ratio of medians; the first round of each warms up and is not counted.

    Args:
        data: file of pairs.
        pairs: a multiple of eight, chosen by a seeded hash.
        rounds: counted ones.
        precision: ``bf16`` or ``fp32``.
        trl_batch: TRL's micro-batch, a divisor of eight.
    """
    examples = choose_examples(load_preferences(data).examples, pairs)
    sides: dict[str, Any] = {"ours": Ours(examples, precision), "trl": TRL(examples, precision, trl_batch)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            taken = side.round() / len(examples)
            if number:
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "pairs": len(examples),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "seconds_a_pair": seconds,
        "ratio": medians["trl"] / medians["ours"],
        "settings": {name: side.about for name, side in sides.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--trl-batch", type=int, default=4)
    options = parser.parse_args()
    found = reward_training(
        options.data,
        pairs=options.pairs,
        rounds=options.rounds,
        precision=options.precision,
        trl_batch=options.trl_batch,
    )
    for name, values in found["seconds_a_pair"].items():
        print(f"{name:5s} {statistics.median(values):6.3f} s a pair  (spread {min(values):.3f} to {max(values):.3f})")
    print(f"ratio {found['ratio']:6.2f}")
    print(json.dumps({k: v for k, v in found.items() if k != "seconds_a_pair"}))


if __name__ == "__main__":
    main()
