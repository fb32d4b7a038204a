"""What a person at the terminal sees of a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm
from transformers.trainer_callback import TrainerCallback

__all__ = ["Progress"]


class Progress:
    """Lines and a bar on standard error.

    Args:
        enabled: False says nothing.
        name: of the run, shown before the bar.
    """

    def __init__(self, *, enabled: bool = True, name: str = "") -> None:
        self.enabled, self.name = enabled, name
        self._bar: tqdm[Any] | None = None

    def line(self, text: str) -> None:
        """A line of its own, above a running bar."""
        if self.enabled:
            tqdm.write(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """A word behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def reference(self, done: int, total: int) -> None:
        """Progress of the reference pass, in examples."""
        if not self.enabled:
            return
        if self._bar is None:
            self._bar = tqdm(total=total, desc="reference", unit="prompt", file=sys.stderr, leave=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """The evaluation's main figures."""
        shown = [
            ("chosen displacement", "held_out/chosen_displacement", "{:+.2f} nats"),
            ("NLL", "held_out/nll_per_token", "{:.3f} nats a token"),
            ("margin", "held_out/margin", "{:.3f}"),
            ("accuracy", "held_out/accuracy", "{:.2f}"),
            ("KL", "samples/kl", "{:.2f} nats"),
            ("proxy", "samples/proxy_reward", "{:.3f}"),
            ("held-out member", "samples/held_out_member", "{:.3f}"),
            ("independent score", "samples/independent_score", "{:.3f}"),
        ]
        if "held_out/margin" in values:  # with comparisons the margin says more
            shown = [row for row in shown if row[0] != "NLL"]
        parts = [f"{label} {form.format(values[key])}" for label, key, form in shown if key in values]
        self.line(f"{self.name + ': ' if self.name else ''}step {step}: " + ", ".join(parts))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def callback(self) -> TrainerCallback:
        """A callback of transformers' Trainer that moves the bar."""
        return _Bar(self)

    def start(self, total: int) -> None:
        if self.enabled:
            self._bar = tqdm(total=total, desc=self.name or "training", unit="step", file=sys.stderr)

    def step(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(done - self._bar.n)


class _Bar(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.start(state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.step(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            margin = f", margin {logs['margin']:.3f}" if "margin" in logs else ""
            self.progress.note(f"loss {logs['loss']:.4f}{margin}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.close()
