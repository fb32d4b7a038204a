"""Answers to judge: samples of runs, our JSONL forms, and the files of AlpacaEval and MT-Bench."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from safetyvalve.data.schema import Message, Place, Prompt
from safetyvalve.data.sources.jsons import array_rows, line_rows
from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, RunError, UsageError, shorten
from safetyvalve.judges import alpaca_eval, mt_bench
from safetyvalve.judges.fields import missing, name_of, text_of
from safetyvalve.judges.items import Answer, Pair, Paired, item_id, pair_answers, prompt_id

__all__ = ["Samples", "read_answers", "read_pairs", "samples_of"]

_STEP = re.compile(r"step-(\d+)\.jsonl")
_TEXT = ("answer", "response", "output", "text")


def read_pairs(sources: Sequence[str], *, common_only: bool = False, turn: int = 1) -> Paired:
    """Pairs of answers from run folders and files.

    Args:
        sources: run folders (``RUN`` is its last step, ``RUN@first`` and ``RUN@40`` others; a single ``RUN`` is
            compared with its own first step), JSONL or JSON files, or a folder with MT-Bench's ``question.jsonl``.
        common_only: as :func:`safetyvalve.judges.items.pair_answers`.
        turn: of MT-Bench's conversations, 1 or 2.

    Raises:
        DataError, RunError, UsageError: with the place.
    """
    if not sources:
        raise UsageError("no run or file is named; name one or more.")
    if len(sources) == 1 and (Path(sources[0]) / "samples").is_dir():
        sources = [f"{sources[0]}@first", f"{sources[0]}@last"]
    if len(sources) == 1 and (rows := _rows(sources[0])) and "answer_a" in rows[0].fields:
        return Paired(tuple(_ready_pairs(rows)), ())
    return pair_answers(read_answers(sources, turn=turn), common_only=common_only)


def read_answers(sources: Sequence[str], *, turn: int = 1) -> list[Answer]:
    """Answers one by one; arguments and errors as :func:`read_pairs`."""
    answers: list[Answer] = []
    for source in sources:
        samples = samples_of(source)
        if samples is not None:
            found = list(_of_run(samples))
        elif Path(source).is_dir():
            found = mt_bench.read_answers(Path(source), turn=turn)
        else:
            rows = _rows(source)
            read = alpaca_eval.answers_of_row if rows and alpaca_eval.is_output(rows[0].fields) else _of_row
            found = [answer for row in rows for answer in read(row)]
        if not found:
            raise DataError("holds no answers; one JSON object a line is accepted.", file=source)
        answers += found
    return answers


class Samples(NamedTuple):
    """One step of a run."""

    name: str
    step: int
    file: Path


def samples_of(source: str) -> Samples | None:
    """The step that ``RUN``, ``RUN@first``, ``RUN@last`` or ``RUN@40`` names; None where it is no run folder.

    Raises:
        RunError: the path does not exist, or the run has no samples at that step.
    """
    path, wanted = Path(source), "last"
    if not path.exists() and "@" in source:
        name, _, wanted = source.rpartition("@")
        path = Path(name)
    if not path.exists():
        raise RunError(f"'{path}' does not exist; a run folder, RUN@STEP, or a file of answers is accepted.")
    if not path.is_dir() or mt_bench.is_folder(path):
        return None
    steps = {int(m[1]): f for f in (path / "samples").glob("step-*.jsonl") if (m := _STEP.fullmatch(f.name))}
    if not steps:
        raise RunError(
            f"'{path}' has no samples/step-*.jsonl: it is no run, or one that sampled nothing (--sample-prompts). An "
            "MT-Bench folder has question.jsonl and model_answer/."
        )
    named = {"first": min(steps), "last": max(steps)}
    step = named.get(wanted, int(wanted) if wanted.isdigit() else -1)
    if step not in steps:
        raise RunError(
            f"'{source}' has no samples at step {shorten(wanted)}; there are {', '.join(map(str, sorted(steps)))}, "
            "and first and last."
        )
    # Named as the human-evaluation app names them, so that people's and judges' verdicts speak of the same models.
    return Samples(f"{path.resolve().name} step {step}", step, steps[step])


def _of_run(samples: Samples) -> Iterator[Answer]:
    seen: dict[str, int] = {}
    for row in line_rows(_text(samples.file), samples.file):
        prompt = _prompt(row)
        key = prompt_id(prompt)
        number = seen[key] = seen.get(key, -1) + 1
        yield Answer(key, prompt, samples.name, text_of(row, "response"), number, row.place)


def _of_row(row: SourceRow) -> Iterator[Answer]:
    """``{"prompt", "model", "answer"}``, or ``{"prompt", "responses": {model: text}}`` and the list forms of it."""
    fields = row.fields
    prompt = _prompt(row)
    key = str(fields["prompt_id"]) if fields.get("prompt_id") is not None else prompt_id(prompt)
    sample = fields.get("sample", 0)
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise DataError(
            f"is {shorten(sample)}; 0, 1, ... is accepted.", file=row.place.file, row=row.place.row, field="sample"
        )
    if "responses" in fields:
        for model, text in _named(fields["responses"], row.place):
            yield Answer(key, prompt, model, text, sample, row.place)
        return
    field = next((f for f in _TEXT if f in fields), None)
    if field is None or "model" not in fields:
        raise missing(
            row, "prompt, model and answer; prompt and responses; or prompt, model_a, answer_a, model_b and answer_b"
        )
    yield Answer(key, prompt, name_of(row, "model"), text_of(row, field), sample, row.place)


def _ready_pairs(rows: Sequence[SourceRow]) -> Iterator[Pair]:
    """``{"prompt", "model_a", "answer_a", "model_b", "answer_b"}``, with an optional ``item_id``."""
    seen: dict[str, Place] = {}
    for row in rows:
        prompt = _prompt(row)
        key = str(row.fields["prompt_id"]) if row.fields.get("prompt_id") is not None else prompt_id(prompt)
        a, b = (
            Answer(key, prompt, name_of(row, f"model_{s}"), text_of(row, f"answer_{s}"), 0, row.place)
            for s in ("a", "b")
        )
        if a.model == b.model:
            raise DataError(
                f"is {shorten(a.model)} as model_a is; two models are compared.",
                file=row.place.file,
                row=row.place.row,
                field="model_b",
            )
        item = str(row.fields["item_id"]) if row.fields.get("item_id") is not None else item_id(a, b)
        if item in seen:
            raise DataError(
                f"item {shorten(item)} stands on {seen[item]} already; remove one, or give each its own item_id.",
                file=row.place.file,
                row=row.place.row,
            )
        seen[item] = row.place
        yield Pair(item, key, a.model, b.model, a.conversation, b.conversation)


def _named(value: Any, place: Place) -> Iterator[tuple[str, str]]:
    entries: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        entries = list(value.items())
    elif isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
        entries = [(v.get("model"), v.get("text")) for v in value]
    if not entries or not all(isinstance(x, str) for pair in entries for x in pair) or not all(m for m, _ in entries):
        raise DataError(
            f'is {shorten(value)}; {{"model": "text", ...}} or [{{"model": name, "text": text}}, ...] is accepted: a '
            "verdict "
            "needs the models' names.",
            file=place.file,
            row=place.row,
            field="responses",
        )
    yield from entries


def _prompt(row: SourceRow) -> Prompt:
    value = row.fields.get("prompt")
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    try:
        prompt = tuple(Message.model_validate(t) for t in turns) if isinstance(turns, list) and turns else ()
    except ValidationError:
        prompt = ()
    if not prompt:
        raise DataError(
            f"is {shorten(value)}; a text or a list of messages with role and content is accepted.",
            file=row.place.file,
            row=row.place.row,
            field="prompt",
        )
    return prompt


def _rows(source: str) -> list[SourceRow]:
    file = Path(source)
    if not file.is_file():
        return []
    text = _text(file)
    return list(array_rows(text, file) if text.lstrip().startswith("[") else line_rows(text, file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 (byte {error.start}). Save it as UTF-8.", file=file) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}). Check the path.", file=file) from None
