"""Alarms of a run in progress: shown each evaluation, written to its folder, and able to end it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safetyvalve.diagnostics.alarms import Alarm, Watch, advice, evaluation_of, loss_of
from safetyvalve.training.folder import RunFolder
from safetyvalve.training.observation import Valve
from safetyvalve.training.progress import Progress

__all__ = ["AlarmLog"]

_FILE = "alarms.jsonl"
_SCORE = "samples/independent_score"


class AlarmLog:
    """Shows every evaluation to the alarms and keeps ``alarms.jsonl``, one line an alarm and evaluation.

    Its state is a function of the run's record, from which a resumed run restores it.

    Args:
        folder: of the run.
        valve: which alarms end the run, and the patience.
        progress: is told of what is raised.
    """

    def __init__(self, folder: RunFolder, valve: Valve, progress: Progress) -> None:
        self.folder, self.valve, self.progress = folder, valve, progress
        self._watch = Watch()
        self._losses: dict[int, float] = {}
        self._before: int | None = None
        self._scores: list[float] = []
        self._raised: set[str] = set()

    def restore(self) -> None:
        """Show the recorded evaluations to the alarms again, without writing or saying anything."""
        for line in self.folder.metrics():
            if line["kind"] == "train":
                self.step(line["step"], line)
        for line in self.folder.metrics():
            if line["kind"] == "evaluation":
                self._see(line["step"], line, self.folder.read_samples(line["step"]))

    def step(self, step: int, logs: Mapping[str, Any]) -> None:
        """Take the loss of a step."""
        self._losses[step] = loss_of(logs)

    def see(self, step: int, metrics: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> str | None:
        """Take an evaluation; returns why the run should end now, or None."""
        before = self._raised.copy()
        alarms = self._see(step, metrics, samples)
        if alarms:
            self.folder.append_lines(_FILE, [a._asdict() for a in alarms])
        for alarm in alarms:
            if alarm.raised and alarm.name not in before:
                self.progress.line(f"step {step}: {alarm.says}. {advice(alarm.name)}")
        return self._reason(alarms)

    def _see(self, step: int, metrics: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> list[Alarm]:
        alarms = self._watch.see(evaluation_of(step, metrics, samples, self._losses, self._before))
        self._before = step
        if _SCORE in metrics:
            self._scores.append(metrics[_SCORE])
        self._raised |= {a.name for a in alarms if a.raised}
        return alarms

    def _reason(self, alarms: Sequence[Alarm]) -> str | None:
        stopping = [a.name for a in alarms if a.raised and a.name in self.valve.stop_on]
        if stopping:
            return f"alarm {' and '.join(stopping)}"
        if self.valve.patience is not None and self._scores:
            since = len(self._scores) - 1 - self._scores.index(max(self._scores))
            if since >= self.valve.patience:
                return f"no better independent score for {since} evaluations"
        return None
