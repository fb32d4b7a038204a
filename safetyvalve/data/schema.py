"""The one form that all preference data takes: a prompt with its responses and the comparisons among them."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from safetyvalve.hashing import content_hash

__all__ = ["Comparison", "Message", "Place", "PreferenceExample", "Prompt", "Response", "response_id"]

Role = Literal["system", "user", "assistant"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Frozen):
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = tuple[Message, ...]
"""The turns before the response; the last one is the user's in well-formed data."""


class Response(_Frozen):
    """One answer of the assistant to the prompt."""

    content: Annotated[str, Field(min_length=1)]


class Comparison(_Frozen):
    """Response ``winner`` was preferred to response ``loser``; both are indices into ``responses``."""

    winner: Annotated[int, Field(ge=0)]
    loser: Annotated[int, Field(ge=0)]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    annotator: Annotated[str, Field(min_length=1)] | None = None
    """Who preferred it, where the data say so."""


class Place(NamedTuple):
    """Where an example was read: ``row`` counts from 1, as :func:`safetyvalve.data.load_preferences` says."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


class PreferenceExample(_Frozen):
    """A prompt, its K >= 2 responses and at least one comparison. A chosen/rejected pair is the case K = 2."""

    prompt: Annotated[Prompt, Field(min_length=1)]
    responses: Annotated[tuple[Response, ...], Field(min_length=2)]
    comparisons: Annotated[tuple[Comparison, ...], Field(min_length=1)]
    baseline: tuple[Response, ...] = ()
    """Responses of the baseline policy to this prompt, where a column of the data holds them."""
    place: Annotated[Place | None, Field(exclude=True)] = None
    """For messages of later stages; no part of the content."""

    @model_validator(mode="after")
    def _comparisons_name_responses(self) -> PreferenceExample:
        for comparison in self.comparisons:
            if max(comparison.winner, comparison.loser) >= len(self.responses):
                raise ValueError(
                    f"comparison {comparison.winner} > {comparison.loser} names a response that is not there; "
                    f"there are {len(self.responses)}, counted from 0"
                )
            if comparison.winner == comparison.loser:
                raise ValueError(f"comparison {comparison.winner} > {comparison.loser} compares a response with itself")
        return self

    @cached_property
    def id(self) -> str:
        """Content hash: 16 hexadecimal digits that stay equal when rows are reordered or files renamed.

        It covers the prompt, the responses and who won with which weight; not annotators, baseline or place.
        """
        return content_hash(
            self.model_dump(mode="json", exclude={"baseline": True, "comparisons": {"__all__": {"annotator"}}})
        )


def response_id(prompt: Prompt, response: str) -> str:
    """Content hash of a prompt with a response: what scores, members and golds of a response are joined by."""
    return content_hash([*([m.role, m.content] for m in prompt), response])
