"""What became of each row, and what the kept ones are like: one object for the terminal, the JSON and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from safetyvalve.data.coverage import PromptCoverage
from safetyvalve.data.lengths import Lengths, character_lengths, token_lengths
from safetyvalve.data.personal import PersonalData, personal_data, redact
from safetyvalve.data.preview import Preview, previews
from safetyvalve.data.quality import Quality, quality
from safetyvalve.data.schema import Place, PreferenceExample
from safetyvalve.data.shares import Record, rows_said
from safetyvalve.data.splits import opening_turn
from safetyvalve.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from safetyvalve.data.limits import Tokenized

__all__ = [
    "DataReport",
    "DroppedRow",
    "Loaded",
    "Reading",
    "Tokens",
    "TruncatedRow",
    "count",
    "examine",
    "refuse_dropped",
    "with_dropped",
]


class DroppedRow(Record):
    """A row that was read and left out."""

    file: str
    row: int
    """As :class:`safetyvalve.data.Place` counts."""
    reason: str
    value: str
    """The start of what was found there."""


class TruncatedRow(Record):
    """A row that is used in part."""

    file: str
    row: int
    turns: int
    """Oldest turns of the prompt that were left out."""
    cut: list[int]
    """Indices of the responses that were cut."""
    before: int
    """Tokens of the prompt and the longest response, before."""
    after: int


class Tokens(Record):
    """What the tokenizer of a model made of the rows."""

    model: str
    max_length: int | None
    """Limit of prompt plus longest response, in tokens."""
    on_long: str
    dropped: int
    """Rows that were left out only now."""
    truncated: list[TruncatedRow]
    lengths: Lengths | None
    previews: list[Preview]
    """The first row without anything like personal data, and the first such row with a cut response; as there are."""

    def lines(self) -> Iterator[str]:
        limit = "no limit" if self.max_length is None else f"at most {self.max_length} tokens, longer: {self.on_long}"
        yield f"  as {self.model} reads it ({limit})"
        turns = sum(t.turns > 0 for t in self.truncated)
        cut = sum(bool(t.cut) for t in self.truncated)
        where = f": {rows_said(Place(t.file, t.row) for t in self.truncated)}" if self.truncated else ""
        yield f"  truncated {len(self.truncated)} (oldest turns left out in {turns}, responses cut in {cut}){where}"
        for part in (self.lengths, *self.previews):
            if part is not None:
                yield from part.lines()


class DataReport(Record):
    """Counts of a loading, the place and reason of every row that was left out, and checks of the rest."""

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
    """Kept examples that a run chose to use, where it did not use all; all that is counted below is of these."""
    comparisons: int = 0
    prompts_opening: int = 0
    """Distinct opening turns: conversations that a split must not divide."""
    longer_won: float | None = None
    """Share of comparisons won by the response with more characters; ties of length left out."""
    lengths: Lengths | None = None
    quality: Quality | None = None
    personal: PersonalData | None = None
    tokens: Tokens | None = None
    """None where no model was named."""
    coverage: PromptCoverage | None = None
    """None where no serving prompts were given."""

    @property
    def dropped_share(self) -> float:
        """Of all rows, if those that were not chosen were like those that were."""
        if not self.rows:
            return 0.0
        late = self.tokens.dropped if self.tokens else 0
        early = len(self.dropped) - late
        read = self.rows - early
        return early / self.rows + (read / self.rows * late / (self.chosen or read) if late else 0.0)

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
            yield f"    {reason}: {len(rows)}, {rows_said((Place(r.file, r.row) for r in rows), limit=12)}"
        if self.quality is None:
            if self.duplicates:
                yield f"  duplicates kept: {self.duplicates}"
            if self.longer_won is not None:
                yield f"  the longer response won {self.longer_won:.1%} of the comparisons"
        for part in (self.lengths, self.quality, self.personal, self.tokens, self.coverage):
            if part is not None:
                yield from part.lines()


class Loaded(NamedTuple):
    """Examples in file order and what became of each row."""

    examples: list[PreferenceExample]
    report: DataReport


class Reading(NamedTuple):
    """How a model reads the data."""

    model: str
    tokenizer: PreTrainedTokenizerBase
    max_length: int | None
    on_long: str
    tokenized: Tokenized


def count(examples: Sequence[PreferenceExample]) -> dict[str, Any]:
    """The report's counts of the examples that are kept, by field."""
    lengths = [
        (len(e.responses[c.winner].content), len(e.responses[c.loser].content)) for e in examples for c in e.comparisons
    ]
    unequal = [(won, lost) for won, lost in lengths if won != lost]
    return {
        "duplicates": len(examples) - len({e.id for e in examples}),
        "comparisons": len(lengths),
        "prompts_opening": len({opening_turn(e) for e in examples}),
        "longer_won": sum(won > lost for won, lost in unequal) / len(unequal) if unequal else None,
    }


def examine(loaded: Loaded, reading: Reading | None = None) -> DataReport:
    """The whole report of loaded data, but for its coverage of serving prompts.

    Args:
        loaded: rows and what became of them.
        reading: how a model reads them; rows that it leaves out are counted as dropped, and the checks are of those
            that are left. None leaves out everything about tokens.
    """
    report, examples = loaded.report, loaded.examples
    changes: dict[str, Any] = {}
    if reading is not None:
        done = reading.tokenized
        examples = done.kept
        report = with_dropped(report, done.dropped)
        changes |= count(examples)
        changes["tokens"] = Tokens(
            model=reading.model,
            max_length=reading.max_length,
            on_long=reading.on_long,
            dropped=len(done.dropped),
            truncated=done.truncated,
            lengths=token_lengths(done.examples) if examples else None,
            previews=previews(examples, done.examples, reading.tokenizer),
        )
    if examples:
        changes |= {
            "lengths": character_lengths(examples),
            "quality": quality(examples),
            "personal": personal_data(examples),
        }
    # What was dropped may be shown in part; its addresses and numbers are not.
    changes["dropped"] = [row.model_copy(update={"value": redact(row.value)}) for row in report.dropped]
    return report.model_copy(update=changes)


def with_dropped(report: DataReport, dropped: Sequence[DroppedRow]) -> DataReport:
    """The report after more rows were left out."""
    return report.model_copy(update={"dropped": [*report.dropped, *dropped], "kept": report.kept - len(dropped)})


def refuse_dropped(report: DataReport, max_drop: float) -> None:
    """Raise DataError where more than ``max_drop`` of the rows were left out, for whatever reasons."""
    if report.dropped_share > max_drop:
        reason, rows = next(iter(report.reasons().items()))
        share = f"{report.dropped_share:.1%}" + (f" by the {report.chosen} that were chosen" if report.chosen else "")
        raise DataError(
            f"{len(report.dropped)} of {report.rows} rows would be dropped ({share}; {reason}: "
            f"{len(rows)}, such as {redact(rows[0].value)}), more than --max-drop {max_drop:g}. Mend the rows that "
            "`safetyvalve data check` lists, or raise --max-drop.",
            file=rows[0].file,
            row=rows[0].row,
        )
