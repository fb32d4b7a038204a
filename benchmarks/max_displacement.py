"""Does ``--max-displacement`` hold, and what does it cost? SmolLM2 against fixed eta (docs/eta.md, docs/alarms.md).

    python benchmarks/max_displacement.py FOLDER [--arms dpo eta0.05 limit0.05] [--seeds 0 1 2]

The quickstart's comparisons at its aggressive rate (2e-4, beta 0.01), 128 prompts seen once in 32 steps; 96 held out,
of which 32 are measured and 64 steer eta. Finished runs in FOLDER are kept and not repeated. The alarms of these runs
are the real runs of docs/alarms.md.
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

from safetyvalve.lab.quickstart.rubric import score_answers  # noqa: E402
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

STEPS, LATE = 32, 16
"""Steps of a run; those at its end over which the constraint is averaged."""


class Row(NamedTuple):
    """Displacements in nats per token, above 0 for a fall."""

    arm: str
    seed: int
    late: float
    """Mean over the last steps, on the responses that steer the multiplier; of an arm without one, not known."""
    held_out: float
    """At the end, on 32 other held-out examples."""
    eta: float
    """Mean over the last steps."""
    score: float
    kl: float


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
    if (path / "model").exists() or (path / "done").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    data = Path(str(files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl")))
    settings = RunSettings(
        name=path.name,
        source=DataSource(data, held_out=96, max_examples=224),
        objective=objective(arm),
        optimization=Optimization(steps=STEPS, prompts_per_step=4, learning_rate=2e-4, token_budget=4096, seed=seed),
        observation=Observation(every=16, held_out_examples=32, prompts=32, samples_per_prompt=1, max_new_tokens=32),
        checkpointing=Checkpointing(0),
        scorer="quickstart-rubric",
    )
    run_training(settings, path, scorer=score_answers, progress=Progress(name=path.name))
    return path


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
        last["samples/independent_score"],
        last["samples/kl"],
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
    print("arm        seed  late D   held-out D  eta     score   KL")
    for row in rows:
        print(
            f"{row.arm:10s} {row.seed:<5d} {row.late:7.4f} {row.held_out:9.4f}  {row.eta:7.3f} "
            f"{row.score:6.2f} {row.kl:6.1f}"
        )


if __name__ == "__main__":
    main()
