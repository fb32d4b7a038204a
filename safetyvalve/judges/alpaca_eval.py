"""Files of AlpacaEval: ``model_outputs.json`` (answers) and ``annotations.json`` (verdicts)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from safetyvalve.data.schema import Message, Prompt
from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, shorten
from safetyvalve.judges.fields import name_of, text_of
from safetyvalve.judges.items import Answer, Pair, item_id, prompt_id
from safetyvalve.stats.resolve import MIRRORED, Resolved, resolve
from safetyvalve.stats.verdicts import RaterKind, Verdict, VerdictValue

__all__ = ["annotation_rows", "answers_of_row", "is_annotation", "is_output", "output_rows", "verdict_of_row"]

_PREFERENCE: dict[VerdictValue, float | None] = {"a": 1.0, "b": 2.0, "tie": 1.5, "both_bad": 1.5, "none": None}


def is_output(fields: Mapping[str, Any]) -> bool:
    """Whether a row is one of ``model_outputs.json``."""
    return {"instruction", "output", "generator"} <= fields.keys()


def is_annotation(fields: Mapping[str, Any]) -> bool:
    """Whether a row is one of ``annotations.json``."""
    return {"instruction", "output_1", "output_2", "preference"} <= fields.keys()


def answers_of_row(row: SourceRow) -> Iterator[Answer]:
    """The answer of a row of ``model_outputs.json``."""
    yield _answer(row, "generator", "output")


def verdict_of_row(row: SourceRow, *, rater_kind: RaterKind) -> Verdict:
    """The verdict of a row of ``annotations.json``; ``model_a`` is ``generator_1``.

    ``preference`` is 1 (first output better) to 2; 1.5 and the older 0 are ties, null is no verdict. A value between,
    as the weighted annotators give, becomes the nearer side with the value in ``tags``. The file has no order shown.

    Raises:
        DataError: a field is missing, or the preference is no such number.
    """
    one, other = (_answer(row, f"generator_{i}", f"output_{i}") for i in (1, 2))
    value = row.fields["preference"]
    verdict, tags = _verdict(value, row)
    return Verdict(
        item_id=item_id(one, other),
        prompt_id=one.prompt_id,
        model_a=one.model,
        model_b=other.model,
        verdict=verdict,
        rater=name_of(row, "annotator"),
        rater_kind=rater_kind,
        length_a=len(one.text),
        length_b=len(other.text),
        tags=tags,
    )


def _verdict(value: Any, row: SourceRow) -> tuple[VerdictValue, tuple[str, ...]]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none", ("no preference",)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 1 <= value <= 2):
        raise DataError(
            f"is {shorten(value)}; 1 (first output) to 2 (second), 0 (tie) or null is accepted.",
            file=row.place.file,
            row=row.place.row,
            field="preference",
        )
    if value in (0, 1.5):
        return "tie", ()
    return ("a" if value < 1.5 else "b"), (() if value in (1, 2) else (f"preference {value:g}",))


def output_rows(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Rows of ``model_outputs.json``.

    Raises:
        DataError: a prompt of more than one turn, or several answers of a model to one prompt: the form cannot hold
            them.
    """
    rows = []
    for answer in answers:
        if answer.sample:
            raise DataError(
                f"model {shorten(answer.model)} has several answers to prompt {shorten(answer.prompt_id)}; "
                "AlpacaEval's form holds one. Pass --first-samples to write only the first."
            )
        rows.append(
            {
                "instruction": _instruction(answer.prompt),
                "output": answer.text,
                "generator": answer.model,
                "dataset": "safetyvalve",
            }
        )
    return rows


def annotation_rows(pairs: Iterable[Pair], verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Rows of ``annotations.json``: one for each rater and pair, both orders together.

    ``both_bad`` becomes a tie and no verdict null, as the form has no other values.
    """
    by_item: dict[str, list[Resolved]] = {}
    for entry in resolve(verdicts):
        by_item.setdefault(entry.item, []).append(entry)
    rows = []
    for pair in pairs:
        for entry in by_item.get(pair.id, ()):
            same_side = entry.model_a == pair.model_a
            rows.append(
                {
                    "instruction": _instruction(pair.a[:-1]),
                    "output_1": pair.answers[0],
                    "generator_1": pair.model_a,
                    "output_2": pair.answers[1],
                    "generator_2": pair.model_b,
                    "annotator": entry.rater,
                    "preference": _PREFERENCE[
                        entry.verdict if same_side else MIRRORED.get(entry.verdict, entry.verdict)
                    ],
                }
            )
    return rows


def _answer(row: SourceRow, generator: str, output: str) -> Answer:
    instruction, more = text_of(row, "instruction"), row.fields.get("input") or ""
    prompt = (Message(role="user", content=f"{instruction}\n\n{more}" if more else instruction),)
    return Answer(prompt_id(prompt), prompt, name_of(row, generator), text_of(row, output), 0, row.place)


def _instruction(prompt: Prompt) -> str:
    if len(prompt) != 1 or prompt[0].role != "user":
        raise DataError(
            f"prompt {shorten(prompt[-1].content)} has {len(prompt)} turns; AlpacaEval's form holds one instruction. "
            "MT-Bench's holds two turns of a user."
        )
    return prompt[0].content
