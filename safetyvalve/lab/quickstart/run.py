"""DPO and RPO on the same comparisons, scored by the rubric that drew them."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from safetyvalve.errors import RunError
from safetyvalve.lab.quickstart.rubric import score_answers
from safetyvalve.training import (
    DataSource,
    Objective,
    Observation,
    Optimization,
    Progress,
    RunSettings,
    run_training,
)

__all__ = ["Quickstart", "run_quickstart"]


# A regime in which DPO stops gaining, or overoptimizes, within minutes: few labels, seen twice, a high learning rate,
# weak regularisation. docs/quickstart.md says what happened, and what happens under less pressure.
HELD_OUT = 256
"""Of the 320 shipped prompts; 64 are left to train on."""
PROBES = 96
"""Held-out prompts that are answered once at every evaluation."""
STEPS = 36
PROMPTS_PER_STEP = 4
LEARNING_RATE = 2e-4
BETA = 0.01
EVALUATIONS = 3


class Quickstart(NamedTuple):
    """Run folders of the two objectives."""

    dpo: Path
    rpo: Path


def run_quickstart(
    output: Path,
    *,
    steps: int = STEPS,
    beta: float = BETA,
    eta: float | None = None,
    seed: int = 0,
    split_seed: int = 0,
    quiet: bool = False,
) -> Quickstart:
    """Train SmolLM2 on the shipped comparisons by DPO and by RPO; everything else is equal.

    Args:
        output: folder for the two run folders ``dpo`` and ``rpo``; it must not exist or be empty.
        steps: optimizer steps of each.
        beta: of both.
        eta: of RPO; None takes the default.
        seed: of data order and sampling.
        split_seed: chooses the prompts to train on. The settings were chosen on 0; see docs/quickstart.md.
        quiet: say nothing on the way.

    Raises:
        RunError: the folder holds something already.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(
            f"output folder '{output}' is not empty; nothing was changed. Name a new one with --output, or remove it."
        )
    rpo = Objective("rpo", beta=beta) if eta is None else Objective("rpo", beta=beta, eta=eta)
    with as_file(files(__package__).joinpath("preferences.jsonl")) as data:
        for name, objective in (("dpo", Objective("dpo", beta=beta)), ("rpo", rpo)):
            settings = RunSettings(
                name=name,
                source=DataSource(data, held_out=HELD_OUT, split_seed=split_seed),
                objective=objective,
                optimization=Optimization(
                    steps=steps,
                    prompts_per_step=PROMPTS_PER_STEP,
                    learning_rate=LEARNING_RATE,
                    token_budget=4096,
                    seed=seed,
                ),
                observation=Observation(
                    every=max(1, steps // EVALUATIONS), held_out_examples=32, prompts=PROBES, samples_per_prompt=1
                ),
                scorer="quickstart-rubric",
            )
            progress = Progress(enabled=not quiet, name=name)
            run_training(settings, output / name, scorer=score_answers, progress=progress)
    return Quickstart(output / "dpo", output / "rpo")
