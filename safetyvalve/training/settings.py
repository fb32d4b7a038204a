"""Everything that decides a run's result: groups of settings, each frozen and checking itself.

A message names the value that is refused, what is accepted, and the command line's name of the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetyvalve.errors import UsageError
from safetyvalve.training.algorithm import Algorithm
from safetyvalve.training.objective import MAXIMIN, Objective
from safetyvalve.training.observation import Observation, Reporting, Valve
from safetyvalve.training.optimization import Checkpointing, FineTuning, Optimization
from safetyvalve.training.sources import Baseline, DataSource, ModelSource

__all__ = ["RunSettings", "plain"]

_OPTION_NAMES = {
    ("objective", "name"): "objective",
    ("algorithm", "name"): "algorithm",
    ("baseline", "kind"): "baseline",
    ("observation", "every"): "eval_every",
    ("observation", "prompts"): "sample_prompts",
    ("checkpointing", "every"): "checkpoint_every",
}
"""Fields that the command line calls by another name than their group does."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides a run's result."""

    name: str
    source: DataSource
    model: ModelSource = field(default_factory=ModelSource)
    algorithm: Algorithm = field(default_factory=Algorithm)
    objective: Objective = field(default_factory=Objective)
    baseline: Baseline = field(default_factory=Baseline)
    optimization: Optimization = field(default_factory=Optimization)
    observation: Observation = field(default_factory=Observation)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    reporting: Reporting = field(default_factory=Reporting)
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    valve: Valve = field(default_factory=Valve)
    scorer: str | None = None
    """Name of the independent scorer, for the record."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimization", self.optimization.resolved(self.fine_tuning))
        self._check_algorithm()
        if self.observation.sample_from == "serving" and self.source.serving_prompts is None:
            raise UsageError("sample_from is 'serving', and there are no serving prompts. Add --serving-prompts FILE.")
        kind, objective = self.baseline.kind, self.objective.name
        if kind != "chosen" and not self.objective.has_sft_term:
            raise UsageError(
                f"baseline '{kind}' has no meaning for the objective '{objective}', which has no SFT term; it belongs "
                "to rpo and sft. Leave it out."
            )
        if kind == "sft-data" and objective == "sft":
            raise UsageError(
                f"baseline 'sft-data' adds a file to comparisons, and the objective 'sft' learns from no comparisons. "
                f"Pass the file itself: --data {self.baseline.sft_data}."
            )
        self._check_valve()

    def _check_valve(self) -> None:
        """Refuse to select or to stop by what this run does not measure."""
        sampled = self.observation.prompts > 0
        lacks = {
            "displacement": not self.observation.held_out_examples or self.objective.name == "sft",
            "proxy-gap": not (sampled and self.scorer),
            "length": not sampled,
            "repetition": not sampled,
            "uncertainty": not (sampled and self.observation.proxy),
        }
        needs = {
            "displacement": "held-out comparisons (--held-out-examples) and an objective that learns from them",
            "proxy-gap": "an independent score (--scorer) of samples (--sample-prompts)",
            "length": "samples (--sample-prompts)",
            "repetition": "samples (--sample-prompts)",
            "uncertainty": "a reward model (--proxy) that scores samples (--sample-prompts)",
        }
        for name in self.valve.stop_on:
            if lacks[name]:
                raise UsageError(f"stop_on is '{name}', which needs {needs[name]}. Add it, or leave the alarm out.")
        wanted = {"select": self.valve.select == "independent", "patience": self.valve.patience is not None}
        for option in (o for o, asked in wanted.items() if asked and lacks["proxy-gap"]):
            value = getattr(self.valve, option)
            raise UsageError(f"{option} is '{value}', which needs {needs['proxy-gap']}. Add it, or leave {option} out.")

    def _check_algorithm(self) -> None:
        algorithm, objective = self.algorithm.name, self.objective.name
        if algorithm == "direct" and objective == MAXIMIN:
            raise UsageError(
                "objective 'maximin' is an algorithm. Take --algorithm maximin, and leave --objective out."
            )
        if algorithm == "maximin" and objective != MAXIMIN:
            raise UsageError(
                f"objective '{objective}' has no meaning for the algorithm 'maximin', whose policy follows a reward "
                "and no loss on comparisons. Leave it out."
            )
        if algorithm == "maximin" and self.observation.proxy is not None:
            raise UsageError(
                f"proxy '{self.observation.proxy}' has no meaning for the algorithm 'maximin', whose own reward is the "
                "proxy of its samples. Leave it out."
            )
        if algorithm == "maximin" and self.baseline.kind != "chosen":
            raise UsageError(
                f"baseline '{self.baseline.kind}' has no meaning for the algorithm 'maximin', whose baseline is the "
                "chosen responses. Leave it out."
            )

    def flat(self) -> dict[str, Any]:
        """All settings by the names of the command line's options, as ``config.yaml`` holds them."""
        values: dict[str, Any] = {"name": self.name}
        for group in _GROUPS:
            settings = asdict(getattr(self, group))
            # A coefficient that the objective ignores would be refused when the file is read again.
            taken = Objective.without_foreign(settings) if group == "objective" else settings
            for name in settings:
                values[_OPTION_NAMES.get((group, name), name)] = plain(taken.get(name))
        return values | {"scorer": self.scorer}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunSettings:
        """The inverse of :meth:`flat`.

        Raises:
            UsageError: a setting is unknown, missing or out of range.
        """
        rest = dict(values)
        groups = {}
        for group, kind in _GROUPS.items():
            taken = {
                f.name: rest.pop(key)
                for f in fields(kind)
                if (key := _OPTION_NAMES.get((group, f.name), f.name)) in rest
            }
            if kind is Objective:
                taken = Objective.without_foreign(taken)
            for name in _PATHS & taken.keys():
                taken[name] = taken[name] and Path(taken[name])
            for name in _TUPLES & taken.keys():
                taken[name] = tuple(taken[name] or ())
            groups[group] = taken
        if "name" not in rest or "data" not in groups["source"]:
            raise UsageError("the settings have no name or no data; both are needed. Restore config.yaml from a copy.")
        name, scorer = rest.pop("name"), rest.pop("scorer", None)
        if rest:
            raise UsageError(
                f"the settings have {', '.join(map(repr, rest))}, which this version does not know. Use the version "
                "that environment.json names."
            )
        return cls(name=name, scorer=scorer, **{g: kind(**groups[g]) for g, kind in _GROUPS.items()})


_GROUPS: dict[str, type[Any]] = {
    "model": ModelSource,
    "source": DataSource,
    "algorithm": Algorithm,
    "objective": Objective,
    "baseline": Baseline,
    "optimization": Optimization,
    "observation": Observation,
    "checkpointing": Checkpointing,
    "reporting": Reporting,
    "fine_tuning": FineTuning,
    "valve": Valve,
}
_TUPLES = {"report_to", "stop_on"}
_PATHS = {"chat_template", "serving_prompts"}


def plain(value: Any) -> Any:
    """As YAML has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
