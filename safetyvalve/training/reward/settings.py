"""Settings of a reward training, in groups that check themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from safetyvalve.errors import UsageError
from safetyvalve.rewards import SHARINGS, SOURCES, Aggregation
from safetyvalve.training.optimization import Checkpointing, FineTuning, Optimization
from safetyvalve.training.settings import plain
from safetyvalve.training.sources import DataSource, ModelSource

__all__ = ["DIVERSITIES", "HEAD_RATE", "TASK", "Ensemble", "Learning", "RewardSettings", "Uncertainty"]

TASK = "reward"
"""Under ``task`` in config.yaml: tells a reward training from that of a policy."""
DIVERSITIES = ("bootstrap", "seed")
HEAD_RATE = 1e-3
"""Learning rate where the heads alone are trained."""


@dataclass(frozen=True)
class Ensemble:
    """How many members there are, what they share, and what makes them differ.

    Raises:
        UsageError: an unknown name, or fewer than one member.
    """

    members: int = 1
    sharing: str = "heads"
    """One of :data:`safetyvalve.rewards.SHARINGS`."""
    diversity: str = "bootstrap"
    """``bootstrap`` weighs the training conversations of each member anew (Poisson, mean 1); ``seed`` starts their
    heads and adapters elsewhere, which ``bootstrap`` does too. All members see the same order."""
    freeze: bool = False
    """Train the heads alone."""

    def __post_init__(self) -> None:
        if self.members < 1:
            raise UsageError(f"members is {self.members}; it must be at least 1.")
        if self.sharing not in SHARINGS:
            raise UsageError(f"sharing is '{self.sharing}'; accepted: {', '.join(SHARINGS)}.")
        if self.diversity not in DIVERSITIES:
            raise UsageError(f"diversity is '{self.diversity}'; accepted: {', '.join(DIVERSITIES)}.")
        if self.freeze and self.sharing != "heads":
            raise UsageError(
                f"freeze has no meaning for the sharing '{self.sharing}', whose members differ in their layers. Leave "
                "it out, or take --sharing heads."
            )


@dataclass(frozen=True)
class Learning:
    """The loss; see :func:`safetyvalve.objectives.bradley_terry_loss`.

    Raises:
        UsageError: a value out of range.
    """

    margin: float = 0.0
    """By how much a comparison of weight 1 is to be won; a comparison's weight multiplies it."""
    centering: float = 0.0

    def __post_init__(self) -> None:
        for name in ("margin", "centering"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a finite number of at least 0.")


@dataclass(frozen=True)
class Uncertainty:
    """The last-layer width that is fitted once training is done.

    Raises:
        UsageError: an unknown name, or a ridge not above 0.
    """

    width: str = "features"
    """One of :data:`safetyvalve.rewards.SOURCES`, or ``none``."""
    ridge: float = 1.0

    def __post_init__(self) -> None:
        if self.width not in (*SOURCES, "none"):
            raise UsageError(f"width is '{self.width}'; accepted: {', '.join(SOURCES)}, none.")
        if not (math.isfinite(self.ridge) and self.ridge > 0):
            raise UsageError(f"ridge is {self.ridge}; it must be a finite number above 0, such as 1.")


@dataclass(frozen=True)
class RewardSettings:
    """Everything that decides a reward model.

    Raises:
        UsageError: groups that contradict each other.
    """

    name: str
    source: DataSource
    model: ModelSource = field(default_factory=ModelSource)
    ensemble: Ensemble = field(default_factory=Ensemble)
    learning: Learning = field(default_factory=Learning)
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    aggregation: Aggregation = field(default_factory=Aggregation)
    optimization: Optimization = field(default_factory=Optimization)
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    eval_every: int = 50
    """Steps between measurements on held-out comparisons."""
    held_out_examples: int = 256
    """Held-out examples that are measured on the way; `safetyvalve reward evaluate` measures all."""
    version: str = "1"

    def __post_init__(self) -> None:
        tuning, sharing = self.fine_tuning.fine_tune, self.ensemble.sharing
        if tuning == "qlora":
            raise UsageError("fine_tune is 'qlora'; full and lora are accepted for reward models.")
        if sharing == "lora" and tuning != "lora":
            raise UsageError(f"sharing 'lora' with fine_tune '{tuning}'; an adapter a member needs --fine-tune lora.")
        if self.ensemble.freeze and tuning != "full":
            raise UsageError(
                f"freeze trains the heads alone, and fine_tune '{tuning}' adapters. Leave one of them out."
            )
        if self.fine_tuning.merge:
            raise UsageError("merge has no meaning here: a shared trunk is saved merged, members of 'lora' never are.")
        if self.eval_every < 1:
            raise UsageError(f"eval_every is {self.eval_every}; it must be at least 1.")
        if self.ensemble.freeze and self.optimization.learning_rate is None:
            object.__setattr__(self, "optimization", replace(self.optimization, learning_rate=HEAD_RATE))
        object.__setattr__(self, "optimization", self.optimization.resolved(self.fine_tuning))

    def flat(self) -> dict[str, Any]:
        """All settings by the names of the command line's options, as ``config.yaml`` holds them."""
        values: dict[str, Any] = {"task": TASK, "name": self.name}
        for group in _GROUPS:
            for name, value in asdict(getattr(self, group)).items():
                values[_OPTION_NAMES.get((group, name), name)] = plain(value)
        return values | {name: getattr(self, name) for name in _OWN}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RewardSettings:
        """The inverse of :meth:`flat`.

        Raises:
            UsageError: a setting is unknown, missing or out of range.
        """
        rest = {k: v for k, v in values.items() if k != "task"}
        groups: dict[str, Any] = {}
        for group, kind in _GROUPS.items():
            keys = {f.name: _OPTION_NAMES.get((group, f.name), f.name) for f in fields(kind)}
            taken = {name: rest.pop(key) for name, key in keys.items() if key in rest}
            for name in ("chat_template", "serving_prompts"):
                if taken.get(name):
                    taken[name] = Path(taken[name])
            groups[group] = kind(**taken)
        own = {name: rest.pop(name) for name in _OWN if name in rest}
        name = rest.pop("name", None)
        if rest or name is None:
            raise UsageError(
                f"the settings have {', '.join(map(repr, rest)) or 'no name'}, which this version does not know. Use "
                "the version that environment.json names."
            )
        return cls(name=name, **groups, **own)


_GROUPS: dict[str, type[Any]] = {
    "model": ModelSource,
    "source": DataSource,
    "ensemble": Ensemble,
    "learning": Learning,
    "uncertainty": Uncertainty,
    "aggregation": Aggregation,
    "optimization": Optimization,
    "fine_tuning": FineTuning,
    "checkpointing": Checkpointing,
}
_OWN = ("eval_every", "held_out_examples", "version")
_OPTION_NAMES = {("aggregation", "method"): "aggregation", ("checkpointing", "every"): "checkpoint_every"}
