"""The one form that all verdicts take, whoever gave them: people, language-model judges, rubrics, reward models."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

__all__ = ["SCORES", "Position", "RaterKind", "Verdict", "VerdictValue", "append_verdicts"]

VerdictValue = Literal["a", "b", "tie", "both_bad", "none"]
"""``a`` and ``b`` name models, never sides of a screen; ``none`` is no verdict: skipped, refused or not parsable."""

SCORES: dict[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
"""What model ``a`` won; other verdicts say nothing."""

RaterKind = Literal["human", "judge", "rubric", "reward"]
Position = Literal["a_first", "b_first"]

Name = Annotated[str, Field(min_length=1)]


class Verdict(BaseModel):
    """One rater's verdict on the answers of two models to one prompt; a line of ``verdicts.jsonl``.

    Optional fields stay out of the file when they are not known. A rater who judges the same item in both orders, or
    again for self-consistency, writes one record each time, told apart by ``repeat``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    item_id: Name
    """The pair of answers; equal for all raters who saw it."""
    prompt_id: Name
    """The prompt; equal for all pairs of answers to it. Intervals take prompts as the independent units."""
    model_a: Name
    model_b: Name
    verdict: VerdictValue
    rater: Name
    """A pseudonym of a person, or the resolved name of a judge, rubric or reward model."""
    rater_kind: RaterKind
    position: Position | None = None
    """Whose answer was shown first (left or top); unknown where it was not recorded."""
    repeat: Annotated[int, Field(ge=0)] = 0
    length_a: Annotated[int, Field(ge=0)] | None = None
    """Length of the answer of ``model_a`` in characters (Unicode code points); in any unit if both have it."""
    length_b: Annotated[int, Field(ge=0)] | None = None
    time: AwareDatetime | None = None
    """When it was given, with its offset from UTC."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Active time that it took."""
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    """How much better: 1 slightly, 2 clearly, 3 by far."""
    tags: tuple[str, ...] = ()
    """Reasons given, or the cause of a ``none``."""
    gold: bool = False
    """An item with a known answer that tests the rater; left out of every comparison of models."""
    inclusion_probability: Annotated[float, Field(gt=0, le=1)] | None = None
    """Chance with which the item was drawn for this rater kind from all items."""

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if self.model_a == self.model_b:
            raise ValueError(f"model_a and model_b are both {self.model_a!r}; a verdict compares two models")
        return self

    @property
    def score(self) -> float | None:
        """What ``model_a`` won: 1, 1/2 for ``tie`` and ``both_bad``, 0; nothing where there is no verdict."""
        return SCORES.get(self.verdict)

    def line(self) -> str:
        """The record as one line of JSON without what is not known."""
        return self.model_dump_json(exclude_none=True)


def append_verdicts(file: str | Path, verdicts: Iterable[Verdict]) -> int:
    """Append records to a JSONL file, on disk when it returns; returns how many."""
    lines = [v.line() + "\n" for v in verdicts]
    with Path(file).open("a", encoding="utf-8") as stream:
        stream.writelines(lines)
        stream.flush()
        os.fsync(stream.fileno())
    return len(lines)
