"""``safetyvalve quickstart``: a model aligned by DPO and by RPO, and a report, within ten minutes on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from safetyvalve.cli.allocator import keep_freed_memory

__all__ = ["quickstart"]


def quickstart(
    output: Path = typer.Option(Path("runs/quickstart"), help="Folder for the two runs and their report."),
    steps: int = typer.Option(36, help="Optimizer steps of each run."),
    beta: float = typer.Option(0.01, help="Strength of the KL regularisation of both."),
    eta: float | None = typer.Option(None, help="Weight of RPO's SFT term; 0.05 by default.", show_default=False),
    seed: int = typer.Option(0, help="Of data order and sampling."),
    split_seed: int = typer.Option(0, help="Chooses the prompts to train on."),
    lang: Literal["en", "ja"] = typer.Option("en", help="Language of the report: en or ja."),
) -> None:
    """Align SmolLM2 by DPO and by RPO on the shipped comparisons, and report whether either overoptimized."""
    keep_freed_memory()
    from safetyvalve.cli.report import report
    from safetyvalve.lab.quickstart.run import run_quickstart

    runs = run_quickstart(output, steps=steps, beta=beta, eta=eta, seed=seed, split_seed=split_seed)
    report([runs.dpo, runs.rpo], output=output / "report.html", lang=lang)
