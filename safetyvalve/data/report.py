"""What became of each row: kept, or dropped and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from safetyvalve.data.schema import PreferenceExample

__all__ = ["DataReport", "DroppedRow", "Loaded"]


class DroppedRow(BaseModel):
    """A row that was read and left out."""

    model_config = ConfigDict(frozen=True)
    file: str
    row: int
    """Line in the file, counted from 1."""
    reason: str
    value: str
    """The start of what was found there."""


class DataReport(BaseModel):
    """Counts of a loading, with the place and reason of every row that was left out."""

    file: str
    source: str = "JSONL"
    """What the source was recognised as."""
    encoding: str | None = None
    """Of a text file, as it was recognised or named."""
    sha256: str
    """Of the file as it lies on disk; of several, of their names and hashes."""
    form: str
    rows: int
    kept: int
    dropped: list[DroppedRow] = Field(default_factory=list)
    duplicates: int = 0
    """Kept rows whose content another kept row has too; they are counted and stay."""
    chosen: int | None = None
    """Kept examples that a run chose to use, where it did not use all."""
    too_long: list[str] = Field(default_factory=list)
    """Identifiers of kept examples that a run then left out for their length."""
    comparisons: int = 0
    prompts_opening: int = 0
    """Distinct opening turns: conversations that a split must not divide."""
    longer_won: float | None = None
    """Share of comparisons won by the response with more characters; ties of length left out."""

    @property
    def dropped_share(self) -> float:
        return len(self.dropped) / self.rows if self.rows else 0.0

    def reasons(self) -> dict[str, list[DroppedRow]]:
        """Dropped rows by reason, the most frequent first."""
        groups: dict[str, list[DroppedRow]] = {}
        for row in self.dropped:
            groups.setdefault(row.reason, []).append(row)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))

    def lines(self) -> Iterator[str]:
        """The report as text for a terminal."""
        encoding = f", {self.encoding}" if self.encoding else ""
        yield f"{self.file}: {self.source}{encoding}, form {self.form}, {self.rows} rows, sha256 {self.sha256[:12]}"
        yield f"  kept     {self.kept} ({self.comparisons} comparisons, {self.prompts_opening} opening turns)"
        yield f"  dropped  {len(self.dropped)} ({self.dropped_share:.2%})"
        for reason, rows in self.reasons().items():
            shown = ", ".join(str(row.row) for row in rows[:12]) + (", ..." if len(rows) > 12 else "")
            yield f"    {reason}: {len(rows)}, row{'s' if len(rows) > 1 else ''} {shown}"
        if self.duplicates:
            yield f"  duplicates kept: {self.duplicates}"
        if self.longer_won is not None:
            yield f"  the longer response won {self.longer_won:.1%} of the comparisons"


class Loaded(NamedTuple):
    """Examples in file order and what became of each row."""

    examples: list[PreferenceExample]
    report: DataReport
