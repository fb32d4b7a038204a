"""Verdict files to records: ours, PandaLM's human test set, and tables with columns of common names."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from safetyvalve.errors import DataError, shorten
from safetyvalve.stats.verdicts import RaterKind, Verdict, VerdictValue

__all__ = ["VerdictFile", "read_verdicts"]

Row = dict[str, Any]

ALIASES = {
    "prompt_id": ("prompt_id", "question_id", "prompt", "instruction"),
    "model_a": ("model_a", "model_1"),
    "model_b": ("model_b", "model_2"),
    "verdict": ("verdict", "winner"),
    "length_a": ("length_a", "len_a"),
    "length_b": ("length_b", "len_b"),
    "answer_a": ("answer_a", "response_a"),
    "answer_b": ("answer_b", "response_b"),
}
RATERS: dict[str, RaterKind | None] = {"rater": None, "annotator": "human", "judge": "judge"}
WORDS = {
    "a": "a", "model_a": "a", "model_1": "a", "b": "b", "model_b": "b", "model_2": "b", "tie": "tie",
    "both_bad": "both_bad", "tie (bothbad)": "both_bad", "both bad": "both_bad",
    "none": "none", "skip": "none", "error": "none",
}  # fmt: skip
KINDS = ("human", "judge", "rubric", "reward")


class VerdictFile(NamedTuple):
    """The verdicts of a file, how it was understood, and what in it was not used."""

    verdicts: tuple[Verdict, ...]
    form: str
    ignored: tuple[str, ...]
    """Columns that are no part of a verdict."""


def read_verdicts(file: str | Path, *, rater_kind: RaterKind | None = None) -> VerdictFile:
    """Read JSONL, JSON (a list), CSV or TSV, plain or gzipped.

    The form is told by the columns: ``pandalm`` (``cmp_key`` and ``annotator1``...), else ``verdicts`` (our record, or
    its columns under common names; see docs/statistics.md).

    Args:
        file: path.
        rater_kind: whose verdicts these are, where no column says so.

    Raises:
        DataError: with file, row and field: a row that cannot be read, a missing column, a word that is no verdict, a
            verdict given twice. Nothing is left out silently.
    """
    path = Path(file)
    rows = list(_rows(path))
    if not rows:
        raise DataError(
            "there are no verdicts; one JSON object a line, or a CSV with a header, is accepted.", file=path
        )
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    judged = [c for c in columns if re.fullmatch(r"annotator_?\d+|judge_\w+", c)]
    if "cmp_key" in columns and judged:
        form, parse, used = "pandalm", _pandalm(judged), {"cmp_key", "idx", *judged, "response1", "response2"}
    else:
        used = {*Verdict.model_fields, *(c for names in ALIASES.values() for c in names), *RATERS, "turn"}
        form, parse = "verdicts", _plain(rater_kind)
    verdicts: list[Verdict] = []
    first_seen: dict[tuple[object, ...], int] = {}
    numbered = "repeat" in columns
    for number, row in rows:
        try:
            found = parse(row)
        except DataError as error:
            raise DataError(str(error), file=path, row=number) from None
        except ValidationError as error:
            wrong = error.errors()[0]
            field = str(wrong["loc"][0]) if wrong["loc"] else None
            raise DataError(
                f"{wrong['msg']}; got {shorten(wrong['input'])}.", file=path, row=number, field=field
            ) from None
        for verdict in found:
            verdicts.append(_unique(verdict, first_seen, numbered, path, number))
    return VerdictFile(tuple(verdicts), form, tuple(c for c in columns if c not in used))


def _unique(verdict: Verdict, seen: dict[tuple[object, ...], int], numbered: bool, path: Path, number: int) -> Verdict:
    """The verdict, with the next repeat number where the file has none; given twice it is an error."""
    key = (verdict.item_id, verdict.rater, verdict.repeat, verdict.position)
    while key in seen:
        if numbered:
            raise DataError(
                f"item {verdict.item_id!r} has a verdict of {verdict.rater!r} with repeat {verdict.repeat} on row "
                f"{seen[key]} already; number repeats 0, 1, ... or remove the doubled row.",
                file=path,
                row=number,
            )
        verdict = verdict.model_copy(update={"repeat": verdict.repeat + 1})
        key = (verdict.item_id, verdict.rater, verdict.repeat, verdict.position)
    seen[key] = number
    return verdict


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    names = [s.lower() for s in path.suffixes]
    kind = next((s for s in reversed(names) if s != ".gz"), "")
    try:
        text = gzip.decompress(path.read_bytes()) if ".gz" in names else path.read_bytes()
        content = text.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error}); give an existing file.", file=path) from None
    except (UnicodeDecodeError, EOFError) as error:
        raise DataError(f"is not UTF-8 text ({error}); convert it to UTF-8.", file=path) from None
    if kind in (".csv", ".tsv"):
        reader = csv.DictReader(
            io.StringIO(content, newline=""), delimiter="\t" if kind == ".tsv" else ",", strict=True
        )
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"has not the {len(reader.fieldnames or [])} fields of the header.",
                        file=path,
                        row=reader.line_num,
                    )
                yield reader.line_num, {k: v for k, v in row.items() if v != ""}
        except csv.Error as error:
            raise DataError(f"is not valid CSV ({error}).", file=path, row=reader.line_num) from None
        return
    if kind == ".json":
        whole = _json(content, path, None)
        if not isinstance(whole, list):
            raise DataError(f"is a JSON {type(whole).__name__}; a list of objects is accepted.", file=path)
        numbered: list[tuple[int, Any]] = list(enumerate(whole, 1))
    else:
        numbered = [(i, _json(s, path, i)) for i, s in enumerate(content.split("\n"), 1) if s.strip()]
    for number, row in numbered:
        if not isinstance(row, dict):
            raise DataError(f"is {shorten(row)}; a JSON object is accepted.", file=path, row=number)
        yield number, row


def _json(text: str, path: Path, row: int | None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"is not valid JSON ({error}); one JSON object a line is accepted.", file=path, row=row
        ) from None


def _plain(rater_kind: RaterKind | None) -> Callable[[Row], list[Verdict]]:
    def parse(row: Row) -> list[Verdict]:
        found: Row = {k: v for k, v in row.items() if k in Verdict.model_fields and v is not None}
        given = {
            field: next((row[n] for n in names if row.get(n) is not None), None) for field, names in ALIASES.items()
        }
        for field in ("prompt_id", "model_a", "model_b"):
            if given[field] is None:
                raise DataError(f"there is no '{field}' ({', '.join(ALIASES[field])} are accepted); add that column.")
            found[field] = _name(given[field])
        column = next((c for c in RATERS if row.get(c) is not None), None)
        if column is None:
            raise DataError(f"there is no rater ({', '.join(RATERS)} are accepted); add that column.")
        found["rater"] = str(row[column])
        if "rater_kind" not in found:
            kind = rater_kind or RATERS[column]
            if kind is None:
                raise DataError(f"there is no 'rater_kind' ({', '.join(KINDS)}); add that column or pass --rater-kind.")
            found["rater_kind"] = kind
        found["verdict"] = _word(given["verdict"], found["model_a"], found["model_b"])
        for side in ("a", "b"):
            length, answer = given[f"length_{side}"], given[f"answer_{side}"]
            if length is None and isinstance(answer, str):
                length = len(answer)
            if length is not None:
                found[f"length_{side}"] = length
        if isinstance(found.get("tags"), str):
            found["tags"] = tuple(t.strip() for t in found["tags"].split(";") if t.strip())
        pair = "|".join(sorted((found["model_a"], found["model_b"])))
        found.setdefault(
            "item_id", "|".join([found["prompt_id"], *([str(row["turn"])] if "turn" in row else []), pair])
        )
        return [Verdict.model_validate(found)]

    return parse


def _pandalm(judged: list[str]) -> Callable[[Row], list[Verdict]]:
    """Columns ``annotatorN`` and ``judge_NAME`` with 0 (tie), 1, 2, as numbers or words; other words are no verdict."""
    words: dict[str, VerdictValue] = {"0": "tie", "tie": "tie", "1": "a", "2": "b"}

    def parse(row: Row) -> list[Verdict]:
        key = str(row.get("cmp_key"))
        if key.count("_") != 1:
            raise DataError(f"cmp_key is {shorten(key)}; two model names joined by one underscore are accepted.")
        model_a, model_b = key.split("_")
        prompt = json.dumps([row.get("instruction"), row.get("input")], ensure_ascii=False)
        common: Row = {"model_a": model_a, "model_b": model_b, "prompt_id": _name(prompt), "position": "a_first"}
        common["item_id"] = str(row.get("idx", f"{common['prompt_id']}|{key}"))
        if "response1" in row and "response2" in row:
            # A few answers of the public set are bare numbers.
            common |= {"length_a": len(str(row["response1"])), "length_b": len(str(row["response2"]))}
        verdicts = []
        for column in judged:
            if (value := row.get(column)) is None:
                continue
            human = column.startswith("annotator")
            word = words.get(str(value).strip().lower())
            if human and word is None:
                raise DataError(f"{column} is {shorten(value)}; 0 (tie), 1 and 2 are accepted.")
            tags = () if word else ("not parsable",)
            rater = column if human else column.removeprefix("judge_")
            kind: RaterKind = "human" if human else "judge"
            verdicts.append(Verdict(**common, rater=rater, rater_kind=kind, verdict=word or "none", tags=tags))
        return verdicts

    return parse


def _name(value: object) -> str:
    """Short values as they are; long ones, such as the text of a prompt, by a hash."""
    if isinstance(value, float) and math.isnan(value):
        raise DataError("a name is NaN; give every row its own.")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 64 else hashlib.sha256(text.encode()).hexdigest()[:16]


def _word(value: object, model_a: str, model_b: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    if value in (model_a, model_b):
        return "a" if value == model_a else "b"
    word = WORDS.get(str(value).strip().lower())
    if word is None:
        raise DataError(
            f"the verdict is {shorten(value)}; a, b, tie, both_bad, none or the name of a model are accepted "
            "(numbers are not: their meaning differs from file to file)."
        )
    return word
