"""Verdicts of MT-Bench (FastChat): pairwise, by single scores, and of people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from safetyvalve.data.sources.source import SourceRow
from safetyvalve.errors import DataError, shorten
from safetyvalve.judges.fields import missing, name_of
from safetyvalve.judges.items import Answer, Pair, item_id
from safetyvalve.judges.mt_bench import is_folder, model_file, read_answers
from safetyvalve.judges.records import DISAGREE
from safetyvalve.stats.resolve import MIRRORED
from safetyvalve.stats.verdicts import Position, RaterKind, Verdict, VerdictValue

__all__ = ["TIE_DELTA", "judgment_rows", "read_judgments"]

TIE_DELTA = 0.1
"""Scores that differ by this or less tie, as FastChat has it."""

_WORDS: dict[str, VerdictValue] = {
    "model_1": "a", "model_a": "a", "model_2": "b", "model_b": "b",
    "tie": "tie", "tie (inconsistent)": "tie", "tie (bothbad)": "both_bad", "error": "none",
}  # fmt: skip

_Answers = Mapping[tuple[str, str], Answer]


def read_judgments(rows: Sequence[SourceRow], *, folder: Path | None = None) -> list[Verdict]:
    """Verdicts of judgment rows.

    Both games of a pairwise judgment become a record each, so that what the judge said in each order is kept. Single
    scores are compared for every two models, a score of -1 is no verdict. ``judge`` names people where it begins with
    ``expert`` or ``author``.

    Args:
        rows: of one or several files.
        folder: with the questions and answers, from which items get the ids that our own judges use.

    Raises:
        DataError: with file, row and field.
    """
    answers: dict[tuple[str, str], Answer] = {}
    if folder is not None and is_folder(folder):
        for turn in (1, 2):
            answers |= {(a.prompt_id, a.model): a for a in read_answers(folder, turn=turn) if a.sample == 0}
    verdicts = [v for row in rows if "score" not in row.fields for v in _pairwise(row, answers)]
    return verdicts + list(_scored([row for row in rows if "score" in row.fields], answers))


def _pairwise(row: SourceRow, answers: _Answers) -> Iterator[Verdict]:
    names = ("model_1", "model_2") if "model_1" in row.fields else ("model_a", "model_b")
    common = _common(row, name_of(row, names[0]), name_of(row, names[1]), answers)
    if "winner" in row.fields:
        tags = (DISAGREE,) if row.fields["winner"] == "tie (inconsistent)" else ()
        yield Verdict(**common, verdict=_word(row, "winner"), tags=tags)
    elif "m1_score" in row.fields:
        yield Verdict(**common, verdict=_word(row, "g1_winner"))
    elif {"g1_winner", "g2_winner"} <= row.fields.keys():
        games: tuple[tuple[str, Position], ...] = (("g1_winner", "a_first"), ("g2_winner", "b_first"))
        values = [_word(row, field) for field, _ in games]
        disagree = (DISAGREE,) if len(set(values)) > 1 and "none" not in values else ()
        for repeat, ((_, position), value) in enumerate(zip(games, values, strict=True)):
            tags = ("error",) if value == "none" else disagree
            yield Verdict(**common, verdict=value, position=position, repeat=repeat, tags=tags)
    else:
        raise missing(row, "g1_winner and g2_winner; winner; or score")


def _scored(rows: Iterable[SourceRow], answers: _Answers) -> Iterator[Verdict]:
    groups: dict[tuple[str, str], dict[str, tuple[SourceRow, float]]] = {}
    for row in rows:
        score, model = row.fields["score"], name_of(row, "model")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise DataError(
                f"is {shorten(score)}; a finite number is needed.",
                file=row.place.file,
                row=row.place.row,
                field="score",
            )
        group = groups.setdefault((_prompt_id(row), _rater(row)[0]), {})
        if model in group:
            raise DataError(
                f"is {shorten(model)}, which this judge scored on this question in row {group[model][0].place.row}.",
                file=row.place.file,
                row=row.place.row,
                field="model",
            )
        group[model] = (row, float(score))
    for scores in groups.values():
        for (one, (row, first)), (other, (_, second)) in combinations(scores.items(), 2):
            common = _common(row, one, other, answers)
            if -1 in (first, second):
                yield Verdict(**common, verdict="none", tags=("error",))
            else:
                tie = abs(first - second) <= TIE_DELTA
                yield Verdict(**common, verdict="tie" if tie else "a" if first > second else "b")


def _common(row: SourceRow, one: str, other: str, answers: _Answers) -> dict[str, Any]:
    key = _prompt_id(row)
    rater, kind = _rater(row)
    fields: dict[str, Any] = {
        "prompt_id": key, "model_a": one, "model_b": other, "rater": rater, "rater_kind": kind,
    }  # fmt: skip
    a, b = answers.get((key, one)), answers.get((key, other))
    if a is None or b is None:
        return {**fields, "item_id": "|".join([key, *sorted((one, other))])}
    return {**fields, "item_id": item_id(a, b), "length_a": len(a.text), "length_b": len(b.text)}


def _prompt_id(row: SourceRow) -> str:
    turn = row.fields.get("turn", 1)
    if turn not in (1, 2):
        raise DataError(
            f"is {shorten(turn)}; 1 or 2 is accepted.", file=row.place.file, row=row.place.row, field="turn"
        )
    return f"{row.fields['question_id']} turn {turn}"


def _rater(row: SourceRow) -> tuple[str, RaterKind]:
    """The judge's model; its prompts, which differ by kind of question, are one judge."""
    judge = row.fields["judge"]
    if isinstance(judge, str) and judge:
        return judge, "human" if judge.startswith(("expert", "author")) else "judge"
    if isinstance(judge, list) and judge and isinstance(judge[0], str):
        return (f"{judge[0]} single" if "score" in row.fields else judge[0]), "judge"
    raise DataError(
        f"is {shorten(judge)}; a name or [model, prompt] is accepted.",
        file=row.place.file,
        row=row.place.row,
        field="judge",
    )


def _word(row: SourceRow, field: str) -> VerdictValue:
    value = row.fields.get(field)
    if not isinstance(value, str) or value not in _WORDS:
        raise DataError(
            f"is {shorten(value)}; {', '.join(_WORDS)} are accepted.",
            file=row.place.file,
            row=row.place.row,
            field=field,
        )
    return _WORDS[value]


def judgment_rows(pairs: Iterable[Pair], verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Rows of ``model_judgment/*_pair.jsonl``: one for each rater and pair.

    A verdict of a single order, or of no order, stands for both games. ``both_bad`` becomes a tie, as the form has no
    other value, and what the judge wrote is left empty.
    """
    words: dict[VerdictValue, str] = {"a": "model_1", "b": "model_2", "tie": "tie", "both_bad": "tie", "none": "error"}
    by_item: dict[str, dict[str, list[Verdict]]] = {}
    for v in verdicts:
        by_item.setdefault(v.item_id, {}).setdefault(v.rater, []).append(v)
    rows = []
    for pair in pairs:
        users = sum(m.role == "user" for m in pair.a)
        number = pair.prompt_id.removesuffix(f" turn {users}")
        for rater, records in by_item.get(pair.id, {}).items():
            games = {"a_first": "", "b_first": ""}
            for v in sorted(records, key=lambda v: v.repeat):
                swapped = v.model_a != pair.model_a
                value = MIRRORED.get(v.verdict, v.verdict) if swapped else v.verdict
                position = {"a_first": "b_first", "b_first": "a_first"}.get(v.position or "") if swapped else v.position
                for game in [position] if position else games:
                    games[game] = games[game] or words[value]
            first, second = games["a_first"] or games["b_first"], games["b_first"] or games["a_first"]
            rows.append(
                {
                    "question_id": int(number) if number.isdigit() else number,
                    "model_1": model_file(pair.model_a),
                    "model_2": model_file(pair.model_b),
                    "g1_winner": first,
                    "g2_winner": second,
                    "judge": [rater, "safetyvalve"],
                    "g1_user_prompt": "", "g1_judgment": "", "g2_user_prompt": "", "g2_judgment": "",
                    "turn": users,
                    "tstamp": 0.0,
                }
            )  # fmt: skip
    return rows
