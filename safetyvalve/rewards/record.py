"""What a reward model says of itself: version, data, members, and how its members are made one number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetyvalve.errors import ModelError, UsageError
from safetyvalve.rewards.scores import check_aggregation

__all__ = ["RECORD_FILE", "Aggregation", "RewardRecord"]

RECORD_FILE = "reward.json"
"""Beside every reward model that safetyvalve trained."""


@dataclass(frozen=True)
class Aggregation:
    """Which formula of :data:`safetyvalve.rewards.AGGREGATIONS` makes one number of the members.

    Raises:
        UsageError: an unknown formula, or a k out of range.
    """

    method: str = "mean"
    k: float = 1.0

    def __post_init__(self) -> None:
        check_aggregation(self.method, self.k)


@dataclass(frozen=True)
class RewardRecord:
    """Where a reward model comes from."""

    version: str
    """What its owner calls it, such as a date; two models of one name should have two."""
    sharing: str
    members: int
    engine: str
    """Forward that was found exact when it was trained."""
    weights_sha256: str
    aggregation: Aggregation = field(default_factory=Aggregation)
    width: Mapping[str, Any] | None = None
    """``source``, ``ridge`` and ``formula`` of the last-layer width; None where there is none."""
    base: Mapping[str, Any] | None = None
    """The model that training began from, as :class:`safetyvalve.lineage.BaseModel`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """``file``, ``sha256``, ``train_ids_sha256``, ``examples``, ``comparisons``."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings that decide the result."""
    format: int = 1

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False, indent=2)
        (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RewardRecord | None:
        """The record of the model in ``folder``; None where there is none.

        Raises:
            ModelError: it cannot be read.
        """
        file = folder / RECORD_FILE
        if not file.is_file():
            return None
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{**values, "aggregation": Aggregation(**values["aggregation"])})
        except (OSError, ValueError, TypeError, KeyError, UsageError) as error:
            raise ModelError(
                f"'{file}' is not the record of a reward model ({error}). Restore it from a copy."
            ) from None
