"""Does ``--max-displacement`` hold, and what does it cost? SmolLM2 against fixed eta (docs/eta.md, docs/alarms.md).

    python benchmarks/max_displacement.py FOLDER [--arms dpo eta0.05 limit0.05] [--seeds 0 1 2]

The quickstart's prompts with the first comparison of each, at its aggressive rate (2e-4, beta 0.01): 96 prompts seen
once in 24 steps of 4; 48 held out, of which 16 are measured and 32 steer eta. Nothing is sampled. Finished runs in
FOLDER are kept and not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from safetyvalve.cli.allocator import keep_freed_memory

keep_freed_memory()

from safetyvalve.training import (  # noqa: E402
    Checkpointing,
    DataSource,
    Objective,
    Observation,
    Optimization,
    Progress,
    RunSettings,
    run_training,
)

STEPS, LATE = 24, 12
"""Steps of a run; those at its end over which the constraint is averaged."""


class Row(NamedTuple):
    """Displacements in nats per token, above 0 for a fall."""

    arm: str
    seed: int
    late: float
    """Mean over the last steps, on the responses that steer the multiplier; of an arm without one, not known."""
    held_out: float
    """At the end, on 16 other held-out examples."""
    eta: float
    """Mean over the last steps."""
    accuracy: float
    """On the held-out comparisons, at the end."""


def objective(arm: str) -> Objective:
    """``dpo``, ``etaX`` or ``limitX``."""
    if arm == "dpo":
        return Objective("dpo", beta=0.01)
    if arm.startswith("eta"):
        return Objective("rpo", beta=0.01, eta=float(arm.removeprefix("eta")))
    return Objective("rpo", beta=0.01, max_displacement=float(arm.removeprefix("limit")))


def run(folder: Path, arm: str, seed: int) -> Path:
    """Train one run unless it stands there finished."""
    path = folder / f"{arm}-seed{seed}"
    if (path / "model").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    settings = RunSettings(
        name=path.name,
        source=DataSource(_pairs(folder), held_out=48, max_examples=144),
        objective=objective(arm),
        optimization=Optimization(steps=STEPS, prompts_per_step=4, learning_rate=2e-4, token_budget=4096, seed=seed),
        observation=Observation(every=STEPS, held_out_examples=16, prompts=0),
        checkpointing=Checkpointing(0),
    )
    run_training(settings, path, progress=Progress(name=path.name))
    return path


def _pairs(folder: Path) -> Path:
    """The shipped data with the first comparison of each prompt: half the tokens."""
    file = folder / "pairs.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shipped = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in shipped.splitlines()]
        pairs = []
        for row in rows:
            first = row["comparisons"][0]
            chosen, rejected = (row["responses"][first[side]] for side in ("winner", "loser"))
            pairs.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
        file.write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    return file


def read(path: Path, arm: str, seed: int) -> Row:
    """A run's figures."""
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    train = [m for m in metrics if m["kind"] == "train"][-LATE:]
    last = [m for m in metrics if m["kind"] == "evaluation"][-1]
    return Row(
        arm,
        seed,
        statistics.mean(m["displacement"] for m in train) if "displacement" in train[0] else float("nan"),
        -last["held_out/chosen_displacement_per_token"],
        statistics.mean(m["eta"] for m in train) if "eta" in train[0] else objective(arm).eta,
        last["held_out/accuracy"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", nargs="+", default=["dpo", "eta0.05", "limit0.05"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows = [read(run(options.folder, arm, seed), arm, seed) for seed in options.seeds for arm in options.arms]
    with (options.folder / "max-displacement.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    print("arm        seed  late D   held-out D  eta     accuracy")
    for r in rows:
        print(f"{r.arm:10s} {r.seed:<5d} {r.late:7.4f} {r.held_out:9.4f}  {r.eta:7.3f} {r.accuracy:6.2f}")


if __name__ == "__main__":
    main()
