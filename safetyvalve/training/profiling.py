"""Where the time of a training step goes, and how near it comes to the machine's fastest products.

``safetyvalve train --profile`` watches some of the run's own steps. Watching costs time itself (some microseconds a
call, and memory), so that profiled steps take about a fifth longer than others; the shares hold roughly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel, TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.native.calls import PREFIX
from safetyvalve.training.forward import Forward
from safetyvalve.training.memory import FreedMemory
from safetyvalve.training.peak import GemmPeak
from safetyvalve.trees import Tree
from safetyvalve.trees.work import work_of

__all__ = ["PARTS", "Profile", "StepProfiler"]

SKIPPED, WATCHED = 3, 3
"""Steps that warm up, and steps that are watched after them."""

PARTS = ("products", "attention", "head", "elementwise", "optimizer", "data", "rest")
"""``products`` of the layers' matrices, and what is packed for them; ``attention``: its products and softmax; ``head``:
from hidden states to log-probabilities and back; ``elementwise``: norms, activations, rotations, sums, casts and
copies; ``optimizer`` with the gradient's norm; ``data``: between two steps; ``rest``: the interpreter and the calls
themselves."""

_HEAD = ("_LinearLogps", "_LinearLogpsBackward", "CheckpointFunction")
_NORMS = ("aten::_foreach_norm", f"{PREFIX}sv_square_sum")
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::mv", "aten::linear")
_OWN_PRODUCTS = (f"{PREFIX}sv_gemm", f"{PREFIX}sv_pack", f"{PREFIX}sv_product")
_ATTENTION = ("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_softmax_backward_data")


class Profile(NamedTuple):
    """Means over the watched steps."""

    steps: int
    seconds: float
    """Of a step, with what it waited for data."""
    parts: dict[str, float]
    """Seconds of each of :data:`PARTS`."""
    operations: int | None
    """That a step needs, see :mod:`safetyvalve.trees.work`; None where not every weight is trained on every
    token."""
    gemm_peak: float
    """Operations a second of the fastest product, measured after the steps."""
    threads: int

    @property
    def utilisation(self) -> float | None:
        return None if self.operations is None else self.operations / (self.gemm_peak * self.seconds)

    def lines(self) -> list[str]:
        """For a person to read."""
        parts = ", ".join(f"{name} {value / self.seconds:.0%}" for name, value in self.parts.items())
        lines = [f"profile: a step took {self.seconds:.2f} s (mean of {self.steps}): {parts}"]
        if self.operations is not None:
            lines.append(
                f"utilisation {self.utilisation:.2f}: {self.operations / 1e9:,.0f} GFLOP a step, of a peak of "
                f"{self.gemm_peak / 1e9:,.0f} GFLOP a second measured on {self.threads} threads"
            )
        return lines

    def write(self, file: Path) -> None:
        values = self._asdict() | {"utilisation": self.utilisation}
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


class StepProfiler(TrainerCallback):
    """Watches steps of a run, once the first ones have warmed up.

    Args:
        forward: of the run.
        freed: of the trainer, held meanwhile: what the profiler keeps is no growth of the steps.
        counted: every weight is trained and meets every token, so that the work can be counted.
    """

    def __init__(self, forward: Forward, freed: FreedMemory, *, counted: bool) -> None:
        self.forward, self.freed, self.counted = forward, freed, counted
        self._seen = 0
        self._seconds: list[float] = []
        self._parts: list[dict[str, float]] = []
        self._operations: list[int] = []
        self._ended: float | None = None
        self._watch: profile | None = None
        self._begun = self._waited = 0.0

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.perf_counter()
        self._seen += 1
        self.freed.held = SKIPPED <= self._seen <= SKIPPED + WATCHED
        if SKIPPED < self._seen <= SKIPPED + WATCHED:
            self._waited = now - (now if self._ended is None else self._ended)
            self._watch = profile(activities=[ProfilerActivity.CPU])
            self._watch.__enter__()
            self._begun = time.perf_counter()

    def computes(self, model: PreTrainedModel, groups: Sequence[Sequence[Tree]]) -> None:
        """Hear of the step's micro-batches."""
        if self._watch is not None and self.counted:
            self._operations.append(sum(work_of(model, group).training for group in groups))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._watch is not None:
            taken = time.perf_counter() - self._begun
            self._watch.__exit__(None, None, None)
            parts = _parts(self._watch.events())
            parts |= {"rest": taken - sum(parts.values()), "data": self._waited}
            self._seconds.append(taken + self._waited)
            self._parts.append({name: parts.get(name, 0.0) for name in PARTS})
            self._watch = None
        self._ended = time.perf_counter()

    def result(self) -> Profile | None:
        """None for a run of too few steps."""
        if not self._seconds:
            return None
        dtype = self.forward.autocast or torch.float32
        return Profile(
            steps=len(self._seconds),
            seconds=mean(self._seconds),
            parts={name: mean(p[name] for p in self._parts) for name in PARTS},
            operations=round(mean(self._operations)) if self._operations else None,
            gemm_peak=GemmPeak(dtype).measure(),
            threads=torch.get_num_threads(),
        )


def _parts(events: Any) -> dict[str, float]:
    """Seconds of each part, from the profiler's events: each counts its own time, without that of its children."""
    parts: dict[str, float] = {}
    for event in events:
        if (name := _part_of(event)) is not None:
            parts[name] = parts.get(name, 0.0) + event.self_cpu_time_total / 1e6
    return parts


def _part_of(event: Any) -> str | None:
    """None for what is no computation: scopes and the interpreter between calls."""
    above = event
    while above is not None:
        if above.name in _HEAD:
            return "head"
        if above.name.startswith("Optimizer.") or above.name in ("aten::_fused_adamw_", *_NORMS):
            return "optimizer"
        above = above.cpu_parent
    if event.name in _PRODUCTS or event.name.startswith(_OWN_PRODUCTS):
        return "products"
    if event.name in _ATTENTION or event.name.startswith(f"{PREFIX}sv_attend"):
        return "attention"
    return "elementwise" if event.name.startswith(("aten::", PREFIX)) else None
