"""Does ``--max-displacement`` hold, compared with fixed eta? (docs/eta.md)

    python benchmarks/max_displacement.py FOLDER [--arms dpo eta0.05 limit0.05] [--seeds 0 1 2] [--setting bytes]

The quickstart's prompts with the first comparison of each; beta 0.01; 4 prompts a step, nothing sampled. Settings:

- ``smollm2``: SmolLM2-135M at a rate of 5e-5, bf16; 144 prompts once in 36 steps, 48 held out.
- ``smollm2-hard``: the same at the quickstart's aggressive rate, 2e-4; 96 prompts once in 24 steps. There the limit is
  out of reach of eta: imitation alone goes beyond it.
- ``bytes``: a Llama of 0.3 million parameters on bytes, trained here on all the shipped answers (cut to 96
  characters) for 400 steps, then aligned at 4e-4, fp32, for 60 steps on 224 prompts; 96 held out. Seconds, not minutes.

Of the held-out examples the first 16 or 32 are measured and the rest, up to 64, steer eta. Finished runs are kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import statistics
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from safetyvalve.training import (  # noqa: E402
    Checkpointing,
    DataSource,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    Progress,
    RunSettings,
    run_training,
)
from tests.tiny import tiny_tokenizer  # noqa: E402

CHARACTERS = 96


class Setting(NamedTuple):
    """A model and how hard it is pushed."""

    steps: int
    learning_rate: float
    precision: str
    held_out: int
    measured: int
    max_examples: int | None


SETTINGS = {
    "smollm2": Setting(36, 5e-5, "bf16", 48, 16, 192),
    "smollm2-hard": Setting(24, 2e-4, "bf16", 48, 16, 144),
    "bytes": Setting(60, 4e-4, "fp32", 96, 32, None),
}


class Row(NamedTuple):
    """Displacements in nats per token, above 0 for a fall."""

    arm: str
    seed: int
    late: float
    """Mean over the last two fifths of the steps, on the examples that steer eta; of an arm without any, not known."""
    held_out: float
    """At the end, on other held-out examples."""
    eta: float
    """Mean over the same steps."""
    accuracy: float
    """On the held-out comparisons, at the end."""


def objective(arm: str) -> Objective:
    """``dpo``, ``etaX`` or ``limitX``."""
    if arm == "dpo":
        return Objective("dpo", beta=0.01)
    if arm.startswith("eta"):
        return Objective("rpo", beta=0.01, eta=float(arm.removeprefix("eta")))
    return Objective("rpo", beta=0.01, max_displacement=float(arm.removeprefix("limit")))


def run(folder: Path, name: str, arm: str, seed: int) -> Path:
    """Train one run unless it stands there finished."""
    path, s = folder / f"{name}-{arm}-seed{seed}", SETTINGS[name]
    if (path / "model").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    model = str(_byte_model(folder)) if name == "bytes" else "smollm2-135m"
    settings = RunSettings(
        name=path.name,
        source=DataSource(_pairs(folder, name), held_out=s.held_out, max_examples=s.max_examples),
        model=ModelSource(model),
        objective=objective(arm),
        optimization=Optimization(
            steps=s.steps,
            prompts_per_step=4,
            learning_rate=s.learning_rate,
            precision=s.precision,
            token_budget=4096,
            seed=seed,
        ),
        observation=Observation(every=s.steps, held_out_examples=s.measured, prompts=0),
        checkpointing=Checkpointing(0),
    )
    run_training(settings, path, progress=Progress(name=path.name))
    return path


def _shipped() -> list[dict[str, Any]]:
    text = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _pairs(folder: Path, name: str) -> Path:
    """The shipped data with the first comparison of each prompt."""
    file = folder / f"{name}-pairs.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pairs = []
        for row in _shipped():
            first, cut = row["comparisons"][0], CHARACTERS if name == "bytes" else None
            chosen, rejected = (row["responses"][first[side]][:cut] for side in ("winner", "loser"))
            pairs.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
        file.write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    return file


def _byte_model(folder: Path) -> Path:
    """A small language model that has learned how the shipped answers look."""
    place = folder / "bytes-model"
    if place.exists():
        return place
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=260,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
    )
    texts = []
    for row in _shipped():
        for answer in row["responses"]:
            turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": answer[:CHARACTERS]}]
            texts.append(tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"][0])
    draw, steps = random.Random(0), 400
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        batch = [draw.choice(texts)[:220] for _ in range(8)]
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in batch], batch_first=True)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps) + 1e-5
        loss = model(input_ids=ids, attention_mask=seen, labels=ids.masked_fill(seen == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def read(path: Path, arm: str, seed: int) -> Row:
    """A run's figures."""
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    train = [m for m in metrics if m["kind"] == "train"]
    train = train[-(2 * len(train) // 5) :]
    last = [m for m in metrics if m["kind"] == "evaluation"][-1]
    steered = "eta" in train[0]
    return Row(
        arm,
        seed,
        statistics.mean(m["displacement"] for m in train) if steered else float("nan"),
        -last["held_out/chosen_displacement_per_token"],
        statistics.mean(m["eta"] for m in train) if steered else objective(arm).eta,
        last["held_out/accuracy"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", nargs="+", default=["dpo", "eta0.05", "limit0.05"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--setting", choices=SETTINGS, default="smollm2")
    options = parser.parse_args()
    rows = [
        read(run(options.folder, options.setting, arm, seed), arm, seed)
        for seed in options.seeds
        for arm in options.arms
    ]
    with (options.folder / f"{options.setting}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    print("arm        seed  late D   held-out D  eta     accuracy")
    for r in rows:
        print(f"{r.arm:10s} {r.seed:<5d} {r.late:7.4f} {r.held_out:9.4f}  {r.eta:7.3f} {r.accuracy:6.2f}")


if __name__ == "__main__":
    main()
