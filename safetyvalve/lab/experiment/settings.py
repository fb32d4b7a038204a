"""Settings of an experiment, and the two sizes that have a name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetyvalve.errors import RunError, UsageError
from safetyvalve.hashing import content_hash
from safetyvalve.precision import settled
from safetyvalve.rewards.scores import check_aggregation

__all__ = [
    "BEST_OF_N",
    "GOLD_FILE",
    "LAB_FILE",
    "METHODS",
    "POLICIES",
    "PRESETS",
    "LabSettings",
    "read_lab",
    "recorded_precision",
]

LAB_FILE, GOLD_FILE = "lab.json", "gold.jsonl"

BEST_OF_N = {
    "bon-single": "best of n by one member of the ensemble (the mean over its members)",
    "bon-mean": "best of n by the ensemble's mean",
    "bon-pessimistic": "best of n by the pessimistic aggregation",
}
POLICIES = {
    "dpo": "DPO on answers ranked by the ensemble's mean",
    "rpo": "RPO on the same ranking",
    "dpo-pessimistic": "DPO on answers ranked by the pessimistic aggregation",
}
METHODS = BEST_OF_N | POLICIES
"""What is optimised against the proxy, by name."""


@dataclass(frozen=True)
class LabSettings:
    """Everything that decides an experiment, besides its gold.

    Raises:
        UsageError: a value out of range.
    """

    model: str = "smollm2-135m"
    """The reference policy, and what the proxy starts from."""
    prompts: int = 48
    """Prompts of the pool; each seed divides them anew."""
    held_out: int = 24
    """Of these, how many a seed keeps for measuring; no label and no step comes from them."""
    samples: int = 8
    """Answers a prompt in the pool: the largest n of best-of-n."""
    max_new_tokens: int = 32
    labels: int = 48
    """Comparisons that the gold labels for the proxy."""
    label_scale: float = 2.0
    """P(a over b) = sigmoid(label_scale * (gold a - gold b) / the pool's standard deviation of the gold)."""
    members: int = 4
    """Of the proxy: heads on one trunk, each with a bootstrap of the labels."""
    proxy_steps: int = 8
    proxy_rate: float = 5e-5
    pessimism: str = "mean-std"
    k: float = 1.0
    answers: int = 4
    """Answers a training prompt that the proxy ranks for DPO and RPO."""
    steps: int = 12
    evaluations: int = 3
    """Measurements of a policy after the one before its first step."""
    prompts_per_step: int = 4
    learning_rate: float = 2e-4
    beta: float = 0.01
    eta: float = 0.05
    precision: str = "auto"
    """As :func:`safetyvalve.precision.settled`, which is what is kept."""
    methods: tuple[str, ...] = tuple(METHODS)
    pool_seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", settled(self.precision))
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) < least:
                raise UsageError(f"{name} is {value}; it must be at least {least}.")
        for name in ("label_scale", "proxy_rate", "learning_rate", "beta"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a finite number above 0.")
        if self.held_out >= self.prompts:
            raise UsageError(
                f"held_out is {self.held_out} of {self.prompts} prompts; fewer are accepted, so that some are left to "
                "learn from."
            )
        if self.answers > self.samples:
            raise UsageError(f"answers is {self.answers}, more than the pool's {self.samples} a prompt. Lower it.")
        if self.evaluations > self.steps:
            raise UsageError(f"evaluations is {self.evaluations}, more than the {self.steps} steps. Lower it.")
        check_aggregation(self.pessimism, self.k)
        unknown = [m for m in self.methods if m not in METHODS]
        if unknown or not self.methods:
            raise UsageError(f"methods are {', '.join(self.methods) or '(none)'}; accepted: {', '.join(METHODS)}.")

    def check(self, folder: Path, gold: Mapping[str, Any], prompts: Sequence[str]) -> None:
        """Keep what decides the experiment in ``folder``, or refuse to mix another one with that which it holds.

        Policies may be added. As long as nothing was scored, the gold may be another.

        Args:
            folder: of the experiment.
            gold: its record.
            prompts: ids of the prompts of the pool.

        Raises:
            RunError: it holds an experiment with other settings, prompts or another gold, or something else.
        """
        file = folder / LAB_FILE
        now: dict[str, Any] = {"settings": asdict(self), "gold": dict(gold), "prompts": content_hash(list(prompts))}
        now = json.loads(json.dumps(now))
        if file.is_file():
            before = _record(folder)
            old, new = before["settings"], now["settings"]
            changed = [name for name in new if name != "methods" and old.get(name) != new[name]]
            changed += ["prompts"] if before.get("prompts") != now["prompts"] and "prompts" not in changed else []
            changed += ["gold"] if before["gold"] != now["gold"] and (folder / GOLD_FILE).is_file() else []
            if changed:
                raise RunError(
                    f"'{folder}' holds an experiment with another {', '.join(changed)}; nothing was changed. Repeat "
                    f"what its {LAB_FILE} says, or name a new folder with --output."
                )
            new["methods"] = [m for m in METHODS if m in {*old["methods"], *self.methods}]
            if before == now:
                return
        elif any(p for p in folder.iterdir() if p.suffix != ".partial"):
            raise RunError(f"'{folder}' is not empty and holds no experiment. Name a new folder with --output.")
        partial = file.with_name(LAB_FILE + ".partial")
        partial.write_text(json.dumps(now, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        partial.replace(file)


_LEAST = {
    "prompts": 4,
    "held_out": 2,
    "samples": 2,
    "max_new_tokens": 1,
    "labels": 2,
    "members": 1,
    "proxy_steps": 1,
    "answers": 2,
    "steps": 1,
    "evaluations": 1,
    "prompts_per_step": 1,
    "eta": 0,
    "pool_seed": 0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "tiny": {
        "prompts": 12,
        "held_out": 6,
        "samples": 4,
        "max_new_tokens": 16,
        "labels": 8,
        "members": 2,
        "proxy_steps": 2,
        "steps": 3,
        "evaluations": 3,
        "prompts_per_step": 2,
    },
}
"""``small`` is what docs/lab.md was measured with; ``tiny`` shows in a minute that everything works, and no more."""


def read_lab(folder: Path) -> tuple[LabSettings, dict[str, Any]]:
    """Settings of the experiment in ``folder``, and what its gold is.

    Raises:
        RunError: there is none, or its record is damaged.
    """
    record = _record(folder)
    try:
        values = record["settings"]
        return LabSettings(**{**values, "methods": tuple(values["methods"])}), dict(record["gold"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"'{folder / LAB_FILE}' is damaged ({error}). Restore it from a copy.") from None


def recorded_precision(folder: Path) -> str | None:
    """What the experiment in ``folder`` computes in, which another machine would not take by itself; None where there
    is none."""
    return read_lab(folder)[0].precision if (folder / LAB_FILE).is_file() else None


def _record(folder: Path) -> dict[str, Any]:
    file = folder / LAB_FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"'{folder}' holds no experiment ({LAB_FILE}: {error.strerror}); a folder that `safetyvalve lab run` made "
            "is accepted. Check the path."
        ) from None
    except ValueError as error:
        raise RunError(f"'{file}' is damaged ({error}). Restore it from a copy.") from None
    if not isinstance(record, dict) or not {"settings", "gold"} <= set(record):
        raise RunError(f"'{file}' is not the record of an experiment. Restore it from a copy.")
    return record
