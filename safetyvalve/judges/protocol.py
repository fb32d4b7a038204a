"""What a judge is: questions in, opinions out, in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from safetyvalve.data.schema import Prompt
from safetyvalve.stats.verdicts import RaterKind

__all__ = ["Choice", "Failure", "Judge", "Opinion", "Question", "now", "opinion_of_scores"]

Choice = Literal["first", "second", "tie", "both_bad", "none"]
"""``none`` is no verdict: refused, cut off or not parsable. It is an outcome, not a failure."""


class Question(NamedTuple):
    """Two conversations that end in an answer each, in the order in which the judge sees them."""

    first: Prompt
    second: Prompt

    @property
    def shared(self) -> Prompt:
        """The turns before the answers that both conversations have."""
        turns = []
        for one, other in zip(self.first[:-1], self.second[:-1], strict=False):
            if one != other:
                break
            turns.append(one)
        return tuple(turns)


class Opinion(BaseModel):
    """What a judge answered to one question."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    choice: Choice
    cause: str | None = None
    """Why there is no verdict."""
    model: str
    """Name of the judge, as resolved by the server if there is one."""
    reply: str | None = None
    """What a language model wrote, as it came."""
    scores: tuple[float, float] | None = None
    """Of the first and the second answer, where the judge scores each on its own."""
    prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    completion_tokens: Annotated[int, Field(ge=0)] | None = None
    time: AwareDatetime
    seconds: Annotated[float, Field(ge=0)] | None = None
    """From asking to the answer, less waits between attempts."""


class Failure(NamedTuple):
    """A question that got no answer; asking again later may get one."""

    reason: str


class Judge(Protocol):
    """Answers questions. Subclassing is not needed."""

    kind: RaterKind
    name: str
    """As pinned by the user; each opinion has the resolved one."""
    both_orders: bool
    """False where each answer is scored on its own, so that order cannot matter."""
    cacheable: bool
    """Equal settings and questions give opinions that may stand for each other."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides an opinion beside the question, as JSON values; opinions are cached under it."""
        ...

    def opinions(self, questions: Sequence[Question]) -> Iterator[tuple[int, Opinion | Failure]]:
        """(index, opinion) of each question, as they come; stops asking when it is closed.

        Raises:
            JudgeError: no further question can be answered either.
        """
        ...


def now() -> datetime:
    return datetime.now(UTC)


def opinion_of_scores(first: float, second: float, *, margin: float, model: str) -> Opinion:
    """The higher score wins; scores that differ by ``margin`` or less tie."""
    choice: Choice = "tie" if abs(first - second) <= margin else "first" if first > second else "second"
    return Opinion(choice=choice, model=model, scores=(first, second), time=now())
