"""Experiment trackers, through transformers' integrations: our settings, our meters and our evaluations reach them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainingArguments
from transformers.trainer_callback import TrainerCallback

from safetyvalve.errors import UsageError

__all__ = ["TRACKERS", "RecordedArguments", "Trackers", "check_installed", "check_known"]

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Names that ``--report-to`` accepts; each is also the package to install and the module to import."""


def check_known(names: Sequence[str]) -> None:
    """Raises UsageError for a name that is none of :data:`TRACKERS`, or given twice."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"report_to is '{name}'; accepted: {', '.join(TRACKERS)}.")
    if len(set(names)) < len(names):
        raise UsageError(f"report_to is {', '.join(names)}; each tracker is accepted once.")


def check_installed(names: Sequence[str]) -> None:
    """Raises UsageError with the line that installs what is missing. Call it before anything is loaded."""
    for name in names:
        if find_spec(name) is None:
            raise UsageError(
                f"report_to is '{name}', which is not installed. Run `pip install {name}`, or leave it out."
            )


class RecordedArguments(TrainingArguments):
    """Training arguments that show the run's settings too: every integration records what ``to_dict`` returns."""

    recorded: Mapping[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **{f"safetyvalve/{k}": v for k, v in self.recorded.items()}}


class Trackers(NamedTuple):
    """Which trackers a run reports to, and what it is called there."""

    names: tuple[str, ...] = ()
    run_name: str | None = None
    settings: Mapping[str, Any] = {}
    """Of the run, by name, recorded as ``safetyvalve/NAME``."""

    def callbacks(self, run: Path, *, resumed_after: int | None = None) -> list[TrainerCallback]:
        """One for each. TensorBoard writes to ``tensorboard/`` in the run folder, or to ``$TENSORBOARD_LOGGING_DIR``.

        Args:
            run: its folder.
            resumed_after: step of the checkpoint that a resumed run goes on from, -1 where it starts again; None for a
                new run. TensorBoard is told to forget what it was sent after it.

        Raises:
            UsageError: one is not known or not installed.
        """
        check_known(self.names)
        check_installed(self.names)
        return [_callback(name, run, resumed_after) for name in self.names]


def _callback(name: str, run: Path, resumed_after: int | None) -> TrainerCallback:
    from transformers.integrations import get_reporting_integration_callbacks

    if name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        # Its own choice lies in checkpoints/, which goes when the run is finished.
        place = Path(os.environ.get("TENSORBOARD_LOGGING_DIR", run / "tensorboard")).expanduser()
        forget = None if resumed_after is None else resumed_after + 1
        return TensorBoardCallback(SummaryWriter(log_dir=str(place), purge_step=forget))
    (kind,) = get_reporting_integration_callbacks([name])
    return kind()
