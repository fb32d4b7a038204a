"""``kpi.json``: the key figures of a system, people's judgment first, with what is not known said as such."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from safetyvalve.release.roi_record import Caution

__all__ = ["Kpi", "KpiKey", "Kpis", "Source"]

KpiKey = Literal[
    "human_win_rate", "both_bad", "share_edited", "edit_minutes", "complaints", "satisfaction", "harm",
    "handle_minutes", "length_ratio", "latency", "reward",
]  # fmt: skip
"""In the order of the table: people first, the reward score last."""

Source = Literal["verdicts", "tickets", "app", "run"]
"""Verdict files, ticket files, the labelling app's timers, a run folder."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kpi(_Record):
    """One figure. ``value`` is None where it is not known; ``missing`` then says how to get it."""

    key: KpiKey
    value: float | None = None
    """A share in [0, 1], minutes, points of the satisfaction scale, a ratio, or reward."""
    low: float | None = None
    high: float | None = None
    """Ends of the interval; None where there is none."""
    baseline: float | None = None
    """The same of the old system."""
    better: Literal["higher", "lower", "near 1", "says nothing alone"]
    n: int | None = None
    """Independent units behind the value."""
    unit: str | None = None
    """What ``n`` counts: prompts, customers, agents, tickets, people, answers."""
    source: Source | None = None
    judge: str | None = None
    """Whose verdicts helped people's, by PPI++."""
    missing: str | None = None
    """Message of kpi_text that says how to get the figure."""
    sufficient: bool = True
    """False for the reward score: a rising reward alone never shows that a system got better."""


class Kpis(_Record):
    """The table."""

    safetyvalve: str
    candidate: str | None
    baseline: str | None
    confidence: float
    figures: list[Kpi]
    cautions: list[Caution]
    files: list[str]
