"""Every error that safetyvalve raises on purpose.

SafetyValveError                what a user can cause and mend; the command line prints it in one line
├── UsageError                  an argument or option has a value that is not accepted
├── DataError                   preference data is missing, malformed or contradicts itself
├── ModelError                  a model, tokenizer or chat template cannot be used
│   └── EngineError             the shared-prefix forward cannot be exact for this model
├── JudgeError                  a judge cannot be reached, refuses the work, or is not the one that was named
├── RunError                    a run folder is missing, incomplete or belongs to another run
├── ReleaseError                a release does not allow this step, now or ever
│   └── ReleaseDamagedError     its record is not what it was when it was written
├── RunInterrupted              somebody stopped the run; it can be resumed
└── NonFiniteLossError          training produced NaN or infinity; names the examples

A message says what was wrong, the value received, what is accepted and the remedy, in that order.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "DataError",
    "EngineError",
    "JudgeError",
    "ModelError",
    "NonFiniteLossError",
    "ReleaseDamagedError",
    "ReleaseError",
    "RunError",
    "RunInterrupted",
    "SafetyValveError",
    "UsageError",
    "shorten",
]


class SafetyValveError(Exception):
    """Base of the tree: catch this to catch all of it."""


class UsageError(SafetyValveError, ValueError):
    """An argument or option has a value that is not accepted."""


class DataError(SafetyValveError, ValueError):
    """Preference data that cannot be used.

    Args:
        message: what was wrong, the value, what is accepted, the remedy.
        file: the file it stands in, if there is one.
        row: its line in that file, counted from 1.
        field: the field of that row.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, row: int | None = None, field: str | None = None
    ) -> None:
        self.file, self.row, self.field = file, row, field
        place = str(file) if file is not None else ""
        if row is not None:
            place += f":{row}" if place else f"row {row}"
        if field is not None:
            place += f", field '{field}'" if place else f"field '{field}'"
        super().__init__(f"{place}: {message}" if place else message)


class ModelError(SafetyValveError):
    """A model, tokenizer or chat template cannot be used."""


class EngineError(ModelError):
    """The shared-prefix forward is not exact for this model."""


class JudgeError(SafetyValveError):
    """A judge cannot be reached, refuses the work, or is not the one that was named."""


class RunError(SafetyValveError):
    """A run folder is missing, incomplete or belongs to another run."""


class ReleaseError(SafetyValveError):
    """A release does not allow this step, now or ever."""


class ReleaseDamagedError(ReleaseError):
    """The record of a release is not what it was when it was written."""


class RunInterrupted(SafetyValveError):  # noqa: N818 - nothing went wrong: somebody stopped it
    """Somebody stopped the run; what it has done is saved and it can be resumed."""


class NonFiniteLossError(SafetyValveError):
    """Training produced NaN or infinity.

    Args:
        message: what was wrong and the remedy.
        example_ids: identifiers of the examples in the failing micro-batch.
    """

    def __init__(self, message: str, *, example_ids: tuple[str, ...] = ()) -> None:
        self.example_ids = example_ids
        super().__init__(message)


def shorten(value: object, limit: int = 80) -> str:
    """``repr`` of a value, cut to ``limit`` characters, for use in a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
