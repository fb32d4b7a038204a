"""Answers and verdicts between our files and those of AlpacaEval and MT-Bench."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.data.sources.jsons import array_rows, line_rows
from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.judges import alpaca_eval, mt_bench, mt_bench_verdicts
from safetyvalve.judges.items import Answer, Pair, pair_answers
from safetyvalve.stats import read_verdicts
from safetyvalve.stats.verdicts import RaterKind, Verdict

__all__ = ["Exported", "read_verdict_file", "write_alpaca_eval", "write_mt_bench"]


class Exported(NamedTuple):
    """Files written, and the verdicts that belong to no pair of the answers."""

    files: tuple[Path, ...]
    verdicts: int
    left_out: int


def read_verdict_file(path: Path, *, rater_kind: RaterKind = "judge") -> list[Verdict]:
    """Verdicts of ``annotations.json``, of ``model_judgment/*.jsonl`` (or a folder that holds it), or any form
    that ``safetyvalve stats`` reads.

    Args:
        path: file or folder.
        rater_kind: whose verdicts those of AlpacaEval are, which do not say it.

    Raises:
        DataError: with file, row and field; also a verdict that stands twice.
    """
    files = sorted((path / "model_judgment").glob("*.jsonl")) if path.is_dir() else [path]
    if path.suffix not in ("", ".json", ".jsonl"):
        return list(read_verdicts(path).verdicts)
    rows = [row for file in files for row in _rows(file)]
    if not rows:
        raise DataError("holds no verdicts.", file=path)
    if path.is_dir() or {"judge", "tstamp"} <= rows[0].fields.keys():
        folder = path if path.is_dir() else path.parent.parent
        verdicts = mt_bench_verdicts.read_judgments(rows, folder=folder)
    elif alpaca_eval.is_annotation(rows[0].fields):
        verdicts = [alpaca_eval.verdict_of_row(row, rater_kind=rater_kind) for row in rows]
    else:
        return list(read_verdicts(path).verdicts)
    (key, n), *_ = Counter((v.item_id, v.rater, v.repeat) for v in verdicts).most_common(1)
    if n > 1:
        raise DataError(f"has {n} verdicts of {shorten(key[1])} on item {key[0]}; remove those given twice.", file=path)
    return verdicts


def write_alpaca_eval(folder: Path, answers: Sequence[Answer], verdicts: Iterable[Verdict] = ()) -> Exported:
    """``MODEL/model_outputs.json`` for each model and, with verdicts, ``annotations.json``.

    Raises:
        DataError: the form cannot hold the answers.
        UsageError: the folder has such files already, or cannot be written.
    """
    given = list(verdicts)
    files: dict[str, Any] = {
        f"{mt_bench.model_file(model)}/model_outputs.json": alpaca_eval.output_rows(
            a for a in answers if a.model == model
        )
        for model in dict.fromkeys(a.model for a in answers)
    }
    pairs = _pairs(answers) if given else ()
    if given:
        files["annotations.json"] = alpaca_eval.annotation_rows(pairs, given)
    texts = {name: json.dumps(rows, ensure_ascii=False, indent=2) + "\n" for name, rows in files.items()}
    return _exported(folder, texts, pairs, given)


def write_mt_bench(folder: Path, answers: Sequence[Answer], verdicts: Iterable[Verdict] = ()) -> Exported:
    """``question.jsonl``, ``model_answer/MODEL.jsonl`` and, with verdicts, ``model_judgment/safetyvalve_pair.jsonl``.

    Raises:
        DataError, UsageError: as :func:`write_alpaca_eval`.
    """
    given = list(verdicts)
    files: dict[str, Any] = {"question.jsonl": mt_bench.question_rows({a.prompt_id: a.prompt for a in answers})}
    for model in dict.fromkeys(a.model for a in answers):
        files[f"model_answer/{mt_bench.model_file(model)}.jsonl"] = mt_bench.answer_rows(
            a for a in answers if a.model == model
        )
    pairs = _pairs(answers) if given else ()
    if given:
        files["model_judgment/safetyvalve_pair.jsonl"] = mt_bench_verdicts.judgment_rows(pairs, given)
    texts = {name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) for name, rows in files.items()}
    return _exported(folder, texts, pairs, given)


def _pairs(answers: Sequence[Answer]) -> tuple[Pair, ...]:
    return pair_answers(answers, common_only=True).pairs


def _exported(folder: Path, texts: dict[str, str], pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Exported:
    known = {p.id for p in pairs}
    placed = sum(v.item_id in known for v in verdicts)
    if verdicts and not placed:
        raise DataError(
            f"none of the {len(verdicts)} verdicts belongs to a pair of these answers. Name the same runs, steps and "
            "files that were judged."
        )
    files = tuple(folder / name for name in texts)
    if there := [f for f in files if f.exists()]:
        raise UsageError(f"'{there[0]}' exists; nothing was written. Name another --output.")
    try:
        for file, text in zip(files, texts.values(), strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"'{folder}' cannot be written ({error.strerror}). Name another --output.") from None
    return Exported(files, placed, len(verdicts) - placed)


def _rows(file: Path) -> list[SourceRow]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error}). UTF-8 text is accepted.", file=file) from None
    return list(array_rows(text, file) if text.lstrip().startswith("[") else line_rows(text, file))
