"""Checkpoints that are whole or absent, and what a full disk or a person's Ctrl-C does to a run.

A checkpoint is written beside its place, forced to the disk, and only then renamed into it; the one before goes after
that. So whenever the process or the machine stops, the newest folder named ``checkpoint-N`` is complete.
"""

from __future__ import annotations

import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.errors import RunInterrupted
from safetyvalve.training.disk import sync
from safetyvalve.training.progress import Progress

__all__ = ["CheckpointCallback", "StopRequest", "last_checkpoint", "publish", "staging", "step_of"]

_NAME = re.compile(r"checkpoint-(\d+)")
_STAGING = ".partial"


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint under ``folder``; None without one."""
    found = [(int(match[1]), path) for path, match in _checkpoints(folder)]
    return max(found)[1] if found else None


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint was saved after."""
    return int(checkpoint.name.partition("-")[2])


def _checkpoints(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    if folder.is_dir():
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield path, match


def staging(folder: Path) -> Path:
    """An empty folder beside the checkpoints, in which the next one is written."""
    path = folder / _STAGING
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def publish(written: Path, folder: Path, *, keep: int | None) -> Path:
    """Give a written checkpoint its place, on disk when this returns.

    Args:
        written: ``checkpoint-N`` in the staging folder.
        folder: of the checkpoints.
        keep: checkpoints that stay, the newest; None keeps all.
    """
    for path in written.rglob("*"):
        if path.is_file():
            sync(path)
    place = folder / written.name
    shutil.rmtree(place, ignore_errors=True)
    written.replace(place)
    sync(folder)
    shutil.rmtree(folder / _STAGING, ignore_errors=True)
    if keep is not None:
        order = sorted(_checkpoints(folder), key=lambda item: int(item[1][1]))
        for path, _ in order[: len(order) - keep]:
            shutil.rmtree(path)
    return place


class StopRequest:
    """A person's wish to stop: the first SIGINT or SIGTERM asks, a second SIGINT stops at once.

    Use as a context manager around training; signals behave as before afterwards. Outside the main thread, where
    Python delivers no signals, it never asks.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.asked = False
        self.ended: str | None = None
        """Why the run itself ended before its last step, if it did: then it is whole."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        self.progress.line("stopping after this step, with a checkpoint; Ctrl-C again stops at once, without one")


class CheckpointCallback(TrainerCallback):
    """Asks the Trainer for a checkpoint every ``every`` steps and when a person wants to stop.

    Args:
        every: steps between checkpoints; 0 for none but the one of a stop.
        stop: whether somebody asked to stop.
    """

    def __init__(self, every: int, stop: StopRequest) -> None:
        self.every, self.stop = every, stop

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == state.max_steps or self.stop.ended:
            return  # the model itself is saved now
        if self.stop.asked:
            control.should_save = control.should_training_stop = True
        elif self.every and state.global_step % self.every == 0:
            control.should_save = True

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and not self.stop.ended:
            raise RunInterrupted(
                f"stopped at step {state.global_step} of {state.max_steps}; its checkpoint is saved. "
                f"Go on with `safetyvalve resume {Path(str(args.output_dir)).parent}`."
            )
