"""The sweep behind the default of eta (docs/eta.md): final independent score against eta, over seeds and regimes.

    python benchmarks/eta_sweep.py FOLDER [--etas 0 0.005 0.05 0.2 1] [--seeds 0] [--regimes quickstart hard gentle]

Held-out prompts are halved by the split: eta is chosen on the validation half and reported on the test half. Finished
runs in FOLDER are kept and not repeated, so the sweep can be stopped and started. eta 0 is DPO.
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

import yaml

from safetyvalve.cli.allocator import keep_freed_memory

keep_freed_memory()

from safetyvalve.lab.quickstart.rubric import score_answers  # noqa: E402
from safetyvalve.stats import mean_interval  # noqa: E402
from safetyvalve.training import (  # noqa: E402
    DataSource,
    Objective,
    Observation,
    Optimization,
    Progress,
    RunSettings,
    run_training,
)


class Regime(NamedTuple):
    """How hard the policy is pushed."""

    beta: float
    learning_rate: float
    steps: int


REGIMES = {
    "quickstart": Regime(0.01, 2e-4, 36),
    "hard": Regime(0.01, 1e-4, 48),
    "gentle": Regime(0.05, 5e-5, 48),
}
HELD_OUT, PROBES, PROMPTS_PER_STEP = 256, 96, 4


class Row(NamedTuple):
    """Result of one run; scores are means over prompts of the final answers."""

    regime: str
    eta: float
    seed: int
    validation: float
    test: float
    kl: float
    chosen_displacement: float


def run(folder: Path, regime: str, eta: float, seed: int) -> Path:
    """Train one run unless it stands there finished."""
    path = folder / f"{regime}-eta{eta:g}-seed{seed}"
    beta, rate, steps = REGIMES[regime]
    settings = RunSettings(
        name=path.name,
        source=DataSource(
            Path(str(files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl"))), held_out=HELD_OUT
        ),
        objective=Objective("rpo", beta=beta, eta=eta),
        optimization=Optimization(
            precision="bf16",
            steps=steps,
            prompts_per_step=PROMPTS_PER_STEP,
            learning_rate=rate,
            token_budget=4096,
            seed=seed,
        ),
        observation=Observation(every=steps, held_out_examples=32, prompts=PROBES, samples_per_prompt=1),
        scorer="quickstart-rubric",
    )
    if (path / "model").exists():
        if yaml.safe_load((path / "config.yaml").read_text()) == settings.flat():
            return path
        raise SystemExit(f"{path} was made with other settings; name another folder.")
    shutil.rmtree(path, ignore_errors=True)  # what an interrupted sweep left
    run_training(settings, path, scorer=score_answers, progress=Progress(name=path.name))
    return path


def read(path: Path, regime: str, eta: float, seed: int) -> Row:
    """Final scores, with the probes of even and odd place as validation and test."""
    samples = [
        json.loads(line)
        for line in (path / "samples" / f"step-{REGIMES[regime].steps:06d}.jsonl").read_text().splitlines()
    ]
    scores = [s["independent_score"] for s in samples]
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    last = [m for m in metrics if m["kind"] == "evaluation"][-1]
    return Row(
        regime,
        eta,
        seed,
        mean_interval(scores[0::2]).estimate,
        mean_interval(scores[1::2]).estimate,
        last["samples/kl"],
        last["held_out/chosen_displacement"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--etas", type=float, nargs="+", default=[0.0, 0.005, 0.05, 0.2, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    options = parser.parse_args()
    rows = [
        read(run(options.folder, regime, eta, seed), regime, eta, seed)
        for seed in options.seeds
        for regime in options.regimes
        for eta in options.etas
    ]
    with (options.folder / "eta.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    print("regime  eta    validation  test (min to max over seeds)  KL  chosen displacement")
    for regime in options.regimes:
        for eta in options.etas:
            group = [r for r in rows if (r.regime, r.eta) == (regime, eta)]
            tests = [r.test for r in group]
            print(
                f"{regime:7s} {eta:<6g} {statistics.mean(r.validation for r in group):7.3f}  "
                f"{statistics.mean(tests):7.3f} ({min(tests):.3f} to {max(tests):.3f})  "
                f"{statistics.mean(r.kl for r in group):6.2f}  "
                f"{statistics.mean(r.chosen_displacement for r in group):+8.2f}"
            )


if __name__ == "__main__":
    main()
