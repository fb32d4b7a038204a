"""Folders of MT-Bench (FastChat): ``question.jsonl``, ``model_answer/*.jsonl``, ``model_judgment/*.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetyvalve.data.schema import Message, Place, Prompt
from safetyvalve.data.sources.jsons import line_rows
from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, shorten
from safetyvalve.hashing import content_hash
from safetyvalve.judges.fields import name_of
from safetyvalve.judges.items import Answer

__all__ = ["answer_rows", "is_folder", "model_file", "question_rows", "read_answers", "rows_of"]


def is_folder(path: Path) -> bool:
    """Whether a folder is of this form."""
    return (path / "question.jsonl").is_file() and (path / "model_answer").is_dir()


def read_answers(folder: Path, *, turn: int = 1) -> list[Answer]:
    """Answers of all models to one turn; at the second, a model's first answer is part of its prompt.

    Questions without that turn are left out. Several choices become samples.

    Raises:
        DataError: with file, row and field.
    """
    questions = {}
    for row in rows_of(folder / "question.jsonl"):
        questions[_question_id(row)] = _turns(row.fields.get("turns"), row.place, "turns")
    answers: list[Answer] = []
    for file in sorted((folder / "model_answer").glob("*.jsonl")):
        for row in rows_of(file):
            question = _question_id(row)
            if question not in questions:
                raise DataError(
                    f"is {question}, which question.jsonl has not.", file=file, row=row.place.row, field="question_id"
                )
            if len(questions[question]) >= turn:
                answers += _choices(
                    row, question, questions[question], turn, str(row.fields.get("model_id") or file.stem)
                )
    return answers


def _choices(row: SourceRow, question: str, asked: list[str], turn: int, model: str) -> Iterator[Answer]:
    choices = row.fields.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(c, Mapping) for c in choices):
        raise DataError(
            f"is {shorten(choices)}; a list of {{index, turns}} is needed.", **_at(row.place), field="choices"
        )
    for index, choice in enumerate(choices):
        said = _turns(choice.get("turns"), row.place, "choices")
        if len(said) < turn:
            raise DataError(f"has {len(said)} turns; {turn} are needed.", **_at(row.place), field="choices")
        turns = [Message(role="user", content=asked[0])]
        for number in range(1, turn):
            turns += [Message(role="assistant", content=said[number - 1]), Message(role="user", content=asked[number])]
        yield Answer(f"{question} turn {turn}", tuple(turns), model, said[turn - 1], index, row.place)


def question_rows(prompts: Mapping[str, Prompt]) -> list[dict[str, Any]]:
    """Rows of ``question.jsonl``.

    Raises:
        DataError: a prompt that the form cannot hold: with a system turn, or of more than two turns of a user.
    """
    return [
        {"question_id": _plain_id(key), "category": "general", "turns": _asked(key, prompt)}
        for key, prompt in prompts.items()
    ]


def answer_rows(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Rows of ``model_answer/MODEL.jsonl`` of one model; samples become choices."""
    by_prompt: dict[str, list[Answer]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt_id, []).append(answer)
    rows = []
    for key, found in by_prompt.items():
        choices = [
            {"index": a.sample, "turns": [m.content for m in a.conversation if m.role == "assistant"]} for a in found
        ]
        rows.append(
            {
                "question_id": _plain_id(key),
                "answer_id": content_hash([key, choices]),
                "model_id": model_file(found[0].model),
                "choices": choices,
                "tstamp": 0.0,
            }
        )
    return rows


def model_file(model: str) -> str:
    """The name that the form gives a model: that of its file, so without slashes."""
    return model.replace("/", "--")


def rows_of(file: Path) -> list[SourceRow]:
    """Rows of a JSONL file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return list(line_rows(file.read_text(encoding="utf-8-sig"), file))
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 (byte {error.start}). Save it as UTF-8.", file=file) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}). Check the path.", file=file) from None


def _question_id(row: SourceRow) -> str:
    value = row.fields.get("question_id")
    return str(value) if isinstance(value, int) else name_of(row, "question_id")


def _turns(value: Any, place: Place, field: str) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(t, str) for t in value):
        raise DataError(f"is {shorten(value)}; a list of texts is needed.", **_at(place), field=field)
    return list(value)


def _asked(key: str, prompt: Sequence[Message]) -> list[str]:
    users = [m.content for m in prompt if m.role == "user"]
    if (
        len(users) > 2
        or [m.role for m in prompt] != ["user", "assistant", "user"][: len(prompt)]
        or prompt[-1].role != "user"
    ):
        raise DataError(
            f"prompt {shorten(key)} has the turns {', '.join(m.role for m in prompt)}; MT-Bench's form holds one or "
            "two turns of a user and no system turn."
        )
    return users


def _plain_id(key: str) -> int | str:
    """The number of a question of MT-Bench again, or the id as it is."""
    number = key.removesuffix(" turn 1").removesuffix(" turn 2")
    return int(number) if number.isdigit() else number


def _at(place: Place) -> dict[str, Any]:
    return {"file": place.file, "row": place.row}
