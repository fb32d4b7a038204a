"""What both sides are measured by: the same clock, the same memory, the same trainer loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch
from transformers.trainer_callback import TrainerCallback

from safetyvalve.training.memory import peak_resident_bytes, reset_peak
from safetyvalve.training.peak import GemmPeak

__all__ = ["Clock", "Memory", "peak_over"]

_SECONDS = 0.1
"""That the peak is measured for before a step."""


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
    """Seconds from the first step's begin to the last one's end: forward, backward, optimizer and data loading.

    Args:
        peak: where it is given, the fastest product is measured before each step and after the last, which the seconds
            do not hold. Other tenants of a shared machine make it several times slower from one second to the next, so
            that one measured elsewhere says little of what a step could have reached.
    """

    def __init__(self, peak: GemmPeak | None = None) -> None:
        self.peak = peak
        self.on_train_begin()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.first = self.last = self.begun = self.paused = 0.0
        self.steps: list[float] = []
        self.peaks: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        arrived = time.perf_counter()
        self._measure()
        self.begun = time.perf_counter()
        if self.first:
            self.paused += self.begun - arrived
        self.first = self.first or self.begun

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.last = time.perf_counter()
        self.steps.append(self.last - self.begun)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._measure()

    def _measure(self) -> None:
        if self.peak is not None:
            self.peaks.append(self.peak.measure(_SECONDS))

    @property
    def figures(self) -> dict[str, float]:
        """Of the steps since training began; operations a second are the peak's while they ran."""
        return {"seconds": self.last - self.first - self.paused} | (
            {"operations_per_second": peak_over(self.steps, self.peaks)} if self.peaks else {}
        )


def peak_over(steps: Sequence[float], peaks: Sequence[float]) -> float:
    """Of steps that took so many seconds each, with a peak measured before, between and after them: that of a second,
    each step having the mean of the two beside it."""
    beside = [(before + after) / 2 for before, after in itertools.pairwise(peaks)]
    return sum(s * p for s, p in zip(steps, beside, strict=True)) / sum(steps)
