"""Settings of a run: how the weights are moved, which of them, and when what was reached is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from safetyvalve.errors import UsageError
from safetyvalve.precision import PRECISIONS, autocast_of, settled

__all__ = ["ALL_LINEAR", "LEARNING_RATES", "SCHEDULES", "Checkpointing", "FineTuning", "Optimization"]

Schedule = Literal["constant", "linear", "cosine"]
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_MEMORY = ("normal", "low")


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
    precision: str = "auto"
    """``bf16`` keeps fp32 parameters and computes in bf16 by autocast; ``fp32`` computes in fp32; ``auto`` is the
    faster one here, see :func:`safetyvalve.precision.settled`."""
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
        for name, table in (("schedule", SCHEDULES), ("precision", PRECISIONS), ("memory", _MEMORY)):
            if getattr(self, name) not in table:
                raise UsageError(f"{name} is '{getattr(self, name)}'; accepted: {', '.join(table)}.")

    def resolved(self, fine_tuning: FineTuning) -> Optimization:
        """With the learning rate and the precision that it leaves open."""
        rate = LEARNING_RATES[fine_tuning.fine_tune] if self.learning_rate is None else self.learning_rate
        return replace(self, learning_rate=rate, precision=settled(self.precision))

    @property
    def autocast(self) -> torch.dtype | None:
        return autocast_of(self.precision)


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
