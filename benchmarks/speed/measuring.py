"""What both sides are measured by: the same clock, the same memory, the same trainer loop."""

from __future__ import annotations

import time
from typing import Any

import psutil
import torch
from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.training.memory import peak_resident_bytes, reset_peak

__all__ = ["Clock", "Memory"]


class Memory:
    """Peak resident memory above the loaded model and optimizer state.

    Made once the model and the data are loaded and before anything is computed. What a library keeps from its own
    preparations afterwards is on its bill; what loading the file left behind is not.

    Args:
        model: whose trained parameters have two moments each in AdamW, of their own type.
        trained: there is an optimizer.
    """

    def __init__(self, model: torch.nn.Module, *, trained: bool) -> None:
        moments = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        self.base = psutil.Process().memory_info().rss + (moments if trained else 0)
        reset_peak()

    def above(self) -> int:
        """Bytes since it was made; the peak so far, over all rounds."""
        return peak_resident_bytes() - self.base


class Clock(TrainerCallback):
    """Seconds from the first step's begin to the last one's end: forward, backward, optimizer and data loading."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.first = 0.0

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.first = self.first or time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.last = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.last - self.first
