"""When a run is measured, and what becomes of it: the record, the alarms, the selection, the end of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.training.alarms import AlarmLog
from safetyvalve.training.checkpoints import StopRequest
from safetyvalve.training.first import FirstMeasures
from safetyvalve.training.folder import RunFolder
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.policy import PolicyTrainer
from safetyvalve.training.progress import Progress
from safetyvalve.training.sampling import SampleMeter
from safetyvalve.training.selection import Selection
from safetyvalve.training.trainer import resident_gib

if TYPE_CHECKING:
    from safetyvalve.training.maximin import MaximinTrainer

__all__ = ["Evaluate"]


class Evaluate(TrainerCallback):
    """Measures before the first step, every ``every`` steps and after the last; writes to the run folder."""

    def __init__(
        self,
        held_out: HeldOutMeter,
        samples: SampleMeter,
        folder: RunFolder,
        every: int,
        progress: Progress,
        alarms: AlarmLog,
        selection: Selection | None,
        stop: StopRequest,
        first: FirstMeasures | None = None,
    ) -> None:
        self.held_out, self.samples, self.folder, self.every = held_out, samples, folder, every
        self.progress, self.alarms, self.selection, self.stop, self.first = progress, alarms, selection, stop, first
        self.more: Callable[[Sequence[dict[str, Any]]], Mapping[str, float]] = lambda records: {}
        """What else is measured, from the samples' records, which it may add to."""
        self.trainer: PolicyTrainer | MaximinTrainer | None = None
        # A resumed run goes on counting where its last evaluation was.
        spent = max((m["seconds"] for m in folder.metrics() if m["kind"] == "evaluation"), default=0.0)
        self.started = time.perf_counter() - spent

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(kwargs["model"], 0)
        else:
            self.samples.restore(self.folder.read_samples(0))
            self.alarms.restore()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            reason = self._measure(kwargs["model"], state.global_step)
            if reason and state.global_step < state.max_steps:
                self.stop.ended = reason
                control.should_training_stop = True
                self.folder.write_json("stopped.json", {"step": state.global_step, "reason": reason})
                self.progress.line(f"ending at step {state.global_step} of {state.max_steps}: {reason}")

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.selection is not None:
            self.selection.settle()

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.folder.append_metrics({"kind": "train", "step": state.global_step, **logs})
            self.alarms.step(state.global_step, logs)

    def _measure(self, policy: PreTrainedModel, step: int) -> str | None:
        """Measure and record; returns why the run should end, or None."""
        assert self.trainer is not None
        self.progress.note("measuring")
        held_out = self.held_out._replace(objective=self.trainer.objective)  # with the eta of this step
        if step == 0 and self.first is not None:
            values, drawn = self.first.held_out(held_out, policy), self.first.drawn(self.samples, policy)
        else:
            values, drawn = held_out.measure(policy), None
        sampled, records = self.samples.measure(policy, drawn)
        values |= sampled
        values |= self.more(records)
        values |= {"resident_gib": resident_gib(), "seconds": time.perf_counter() - self.started}
        self.folder.append_metrics({"kind": "evaluation", "step": step, **values})
        if records:
            self.folder.write_samples(step, records)
        self.trainer.publish(values)
        self.progress.evaluated(step, values)
        if self.selection is not None:
            self.selection.see(step, values, policy)
        if step:
            self.alarms.step(step, self.trainer.meters)  # its line is written after this
        return self.alarms.see(step, values, records)
