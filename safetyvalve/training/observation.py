"""Settings of a run: what is measured on the way, who is told, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass

from safetyvalve.diagnostics.alarms import ALARMS
from safetyvalve.errors import UsageError
from safetyvalve.training.trackers import check_known

__all__ = ["Observation", "Reporting", "Valve"]

SAMPLED = ("held-out", "serving")
"""Names that ``--sample-from`` accepts."""


@dataclass(frozen=True)
class Observation:
    """What is measured on the way, and how often.

    Raises:
        UsageError: a value out of range.
    """

    every: int = 10
    """Steps between evaluations; there is always one before the first step and one after the last."""
    held_out_examples: int = 64
    """Held-out examples whose comparisons are measured; at most those there are."""
    prompts: int = 32
    """Held-out prompts that are sampled; 0 samples nothing."""
    samples_per_prompt: int = 2
    max_new_tokens: int = 64
    sample_from: str = "held-out"
    """Whose prompts are sampled: the ``held-out`` ones, or the ``serving`` ones of the data source."""
    proxy: str | None = None
    """Reward model that scores the samples beside the independent scorer."""
    held_out_member: str | None = None
    """Reward model that was trained on other comparisons than the proxy, for where there is no independent scorer."""

    def __post_init__(self) -> None:
        if self.sample_from not in SAMPLED:
            raise UsageError(f"sample_from is '{self.sample_from}'; accepted: {', '.join(SAMPLED)}.")
        if self.held_out_member is not None and self.held_out_member == self.proxy:
            raise UsageError(
                f"held_out_member is '{self.held_out_member}', which is the proxy itself; a reward model that was "
                "trained on other comparisons is accepted."
            )
        for name, least in (
            ("every", 1),
            ("held_out_examples", 0),
            ("prompts", 0),
            ("samples_per_prompt", 1),
            ("max_new_tokens", 1),
        ):
            if (value := getattr(self, name)) < least:
                option = {"every": "eval_every", "prompts": "sample_prompts"}.get(name, name)
                raise UsageError(f"{option} is {value}; it must be at least {least}.")


@dataclass(frozen=True)
class Reporting:
    """Where a run's figures go besides its folder, and the language of its report.

    Raises:
        UsageError: a tracker that is not known, or a language.
    """

    report_to: tuple[str, ...] = ()
    """Names of :data:`safetyvalve.training.trackers.TRACKERS`."""
    lang: str = "en"

    def __post_init__(self) -> None:
        check_known(self.report_to)
        if self.lang not in ("en", "ja"):
            raise UsageError(f"lang is '{self.lang}'; accepted: en, ja.")


SELECTIONS = ("last", "independent")


@dataclass(frozen=True)
class Valve:
    """Which weights become the model, and what ends a run before its last step. Alarms are evaluated in every run.

    Raises:
        UsageError: an unknown selection or alarm, or a patience out of range.
    """

    select: str = "last"
    """``independent`` takes those of the evaluation with the best independent score."""
    stop_on: tuple[str, ...] = ()
    """Names of :data:`safetyvalve.diagnostics.alarms.ALARMS`."""
    patience: int | None = None
    """Evaluations without a better independent score after which the run ends; None goes on."""

    def __post_init__(self) -> None:
        if self.select not in SELECTIONS:
            raise UsageError(f"select is '{self.select}'; accepted: {', '.join(SELECTIONS)}.")
        for name in self.stop_on:
            if name not in ALARMS:
                raise UsageError(f"stop_on is '{name}'; accepted: {', '.join(ALARMS)}.")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience is {self.patience}; it must be at least 1 evaluation, or left out.")
