"""``safetyvalve resume``: go on with a run that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from safetyvalve.cli.allocator import keep_freed_memory

__all__ = ["resume"]


def resume(
    run: Path = typer.Argument(..., help="Folder of the run that was stopped."),
    lang: Literal["en", "ja"] | None = typer.Option(None, help="Language of the report: en or ja. Default: the run's."),
) -> None:
    """Go on with a run that was stopped, from its last checkpoint and with its own settings.

    On the CPU, with as many threads as before, the result is bitwise that of a run that was never stopped.
    """
    keep_freed_memory()
    from safetyvalve.cli.report import report
    from safetyvalve.cli.scorers import load_scorer
    from safetyvalve.training import Progress, resume_training
    from safetyvalve.training.folder import read_config

    if read_config(run).get("task") == "reward":
        from safetyvalve.training.reward import resume_reward

        resume_reward(run, progress=Progress(name=run.name))
        return
    resume_training(run, load_scorer, progress=Progress(name=run.name))
    report([run], output=None, lang=lang or read_config(run).get("lang", "en"))
