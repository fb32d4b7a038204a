"""One call from data and choices to the whole plan."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

from safetyvalve import __version__
from safetyvalve.data import DataReport, PromptCoverage
from safetyvalve.release.plan.costs import Costs, Rates, cost_lines
from safetyvalve.release.plan.curve import CurvePlan
from safetyvalve.release.plan.noise import NoisePlan, plan_noise
from safetyvalve.release.plan.settings import SettingsPlan, plan_settings
from safetyvalve.stats import Design, Plan, plan_evaluation
from safetyvalve.stats.overview import plain

__all__ = [
    "FORMAT",
    "SCENARIOS",
    "EvaluationPlan",
    "MachineTime",
    "ProjectPlan",
    "make_plan",
    "plan_people",
    "sweep_steps",
]

FORMAT = "safetyvalve-plan/1"
SCENARIOS = (0.55, 0.6, 0.65)
"""Win rates that are shown where none is chosen; none of them is a recommendation."""


class EvaluationPlan(NamedTuple):
    """The planned comparison of two models by people."""

    design: Design
    power: float
    confidence: float
    seconds: float
    """Active time of a judgment: an assumption, to be measured in a trial."""
    extra: float
    plans: tuple[Plan, ...]
    """One if a difference was chosen, else a scenario each."""
    chosen: bool

    @property
    def hours(self) -> float | None:
        """Of people; None while nothing is chosen, or where no number of prompts is enough."""
        return self.plans[0].hours if self.chosen else None


def plan_people(
    design: Design,
    *,
    win_rate: float | None,
    prompts: int | None,
    power: float,
    seconds: float,
    extra: float,
    hours_each: float,
    confidence: float = 0.95,
) -> EvaluationPlan:
    """The evaluation for the difference that was chosen, or one for each of :data:`SCENARIOS`.

    Args:
        win_rate, prompts: at most one of them.
        design, power, seconds, extra, hours_each, confidence: as :func:`safetyvalve.stats.plan_evaluation`.

    Raises:
        UsageError: values that are not accepted.
    """
    chosen = win_rate is not None or prompts is not None
    wanted = [(win_rate, prompts)] if chosen else [(rate, None) for rate in SCENARIOS]
    plans = tuple(
        plan_evaluation(
            design,
            win_rate=rate,
            prompts=number,
            power=power,
            confidence=confidence,
            seconds=seconds,
            extra=extra,
            hours_each=hours_each,
        )
        for rate, number in wanted
    )
    return EvaluationPlan(design, power, confidence, seconds, extra, plans, chosen)


class MachineTime(NamedTuple):
    """A run's time and memory, measured on its own first steps on this machine."""

    model: str
    machine: str
    steps: int
    prompts_per_step: int
    epochs: float
    seconds: float | None
    """Of one run; None where it was refused."""
    parts: dict[str, float]
    """Seconds of each part of the run."""
    peak_bytes: int | None
    refused: str | None
    """Why the run cannot be made on this machine, with the remedy."""


class ProjectPlan(NamedTuple):
    """Everything that ``plan.json`` holds; docs/plan.md says what each field means."""

    format: str
    version: str
    created: str
    data: DataReport
    curve: CurvePlan
    noise: NoisePlan
    coverage: PromptCoverage | None
    settings: SettingsPlan
    evaluation: EvaluationPlan
    machine: MachineTime | None
    costs: Costs

    def record(self) -> dict[str, Any]:
        """As JSON holds it: infinities as null, the data report cut to its counts."""
        whole = self._asdict()
        quality = self.data.quality
        whole["data"] = {
            name: getattr(self.data, name)
            for name in ("file", "sha256", "form", "rows", "kept", "chosen", "comparisons", "duplicates")
        } | {
            "dropped": len(self.data.dropped),
            "conversations": self.data.prompts_opening,
            "contradictions": len(quality.contradictions) if quality else None,
            "near_equal": len(quality.near_equal) if quality else None,
            "longer_won": quality.longer_won.model_dump() if quality and quality.longer_won else None,
        }
        noise = self.noise._asdict()
        noise["estimated"] = self.noise.estimated.model_dump() if self.noise.estimated else None
        whole["noise"] = noise
        whole["coverage"] = self.coverage.model_dump(mode="json") if self.coverage else None
        whole["curve"] = self.curve._asdict() | {"more_helps": self.curve.more_helps}
        whole["settings"] = self.settings._asdict() | {"n_runs": self.settings.n_runs}
        evaluation = self.evaluation._asdict()
        evaluation["design"] = vars(self.evaluation.design)
        whole["evaluation"] = evaluation | {"hours": self.evaluation.hours}
        found: dict[str, Any] = plain(whole)
        return found


def sweep_steps(prompts: int, prompts_per_step: int, epochs: float) -> int:
    """Steps of a run that sees each prompt ``epochs`` times, without the tenth that ``train`` holds out."""
    return max(1, math.ceil(0.9 * prompts * epochs / prompts_per_step))


def make_plan(
    data: DataReport,
    curve: CurvePlan,
    evaluation: EvaluationPlan,
    *,
    coverage: PromptCoverage | None = None,
    machine: MachineTime | None = None,
    label_error: float | None = None,
    rates: Rates | None = None,
) -> ProjectPlan:
    """Put the measured parts together with what follows from them.

    Args:
        data: the whole report, of :func:`safetyvalve.data.examine`.
        curve: of the probe.
        evaluation: of people.
        coverage: of the serving prompts, where they were given.
        machine: a run's time, where it was measured.
        label_error: an assumed share of labels that are the wrong way round.
        rates: money an hour, where given.

    Raises:
        UsageError: values that are not accepted, rates in two currencies.
    """
    quality = data.quality
    noise = plan_noise(quality.label_noise if quality else None, curve.reached, assumed=label_error)
    settings = plan_settings(data.comparisons)
    per_label = evaluation.seconds * (1 + evaluation.extra) / 3600
    run = machine.seconds if machine is not None else None
    costs = cost_lines(
        rates or Rates(),
        evaluation=evaluation.hours,
        repeats=noise.repeats * evaluation.seconds / 3600 if noise.estimated is None else None,
        doubling=data.comparisons * per_label,
        sweep=None if run is None else settings.n_runs * run / 3600,
    )
    return ProjectPlan(
        FORMAT,
        __version__,
        datetime.now(UTC).isoformat(timespec="seconds"),
        data,
        curve,
        noise,
        coverage,
        settings,
        evaluation,
        machine,
        costs,
    )
