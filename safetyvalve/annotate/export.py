"""Votes and corrections as files: preference data to train on, SFT rows, verdicts for statistics, CSV, and an archive.

The same database gives the same bytes. ``manifest.json`` has the SHA-256 of every file and the head of the event log.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from safetyvalve import __version__
from safetyvalve.annotate.archive import archive_lines
from safetyvalve.annotate.events import head
from safetyvalve.annotate.models import Annotator, Correction, Item
from safetyvalve.annotate.results import Judgment, judgments, model_names
from safetyvalve.data.cells import safe_cell
from safetyvalve.data.schema import Message
from safetyvalve.errors import RunError, UsageError, shorten
from safetyvalve.judges import items as judged
from safetyvalve.stats.verdicts import Verdict

__all__ = ["WEIGHINGS", "Weighing", "export_files", "write_export", "zip_of"]

Weighing = Literal["vote", "item", "gold"]
"""``vote``: every vote counts one. ``item``: the votes of an item sum to one. ``gold``: an annotator's votes count
(right + 1) / (answered + 2), of gold items; so one half where there were none."""
WEIGHINGS: tuple[Weighing, ...] = get_args(Weighing)


class _Edit(NamedTuple):
    correction: Correction
    annotator: str


def export_files(
    session: Session, *, weigh: Weighing = "vote", weights: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """All files by name.

    Args:
        weigh: what a vote weighs.
        weights: further factors by annotator's name; 1 where there is none.

    Raises:
        UsageError: an unknown weighing, or a weight that is not above 0.
    """
    if weigh not in WEIGHINGS:
        raise UsageError(f"weigh is '{weigh}'; accepted: {', '.join(WEIGHINGS)}.")
    found = judgments(session)
    factors = _factors(found, weigh, weights or {})
    items = {i.id: i for i in session.scalars(select(Item).where(Item.kind != "practice").order_by(Item.id))}
    left_out: Counter[str] = Counter()
    examples = list(_examples(items, found, _edits(session), factors, weigh, left_out))
    files = {
        "preferences.jsonl": _jsonl(examples),
        "pairs.jsonl": _jsonl(_trl_pairs(examples)),
        "sft.jsonl": _jsonl(_sft_rows(examples)),
        "verdicts.jsonl": "".join(f"{v.line()}\n" for v in _verdicts(found)).encode(),
        "votes.csv": _csv(found),
        "archive.jsonl": _jsonl(archive_lines(session)),
    }
    last = head(session)
    manifest = {
        "safetyvalve": __version__,
        "weigh": weigh,
        "weights": {name: factors[name] for name in sorted(factors)},
        "event_log_head": str(last),
        "rows": {name: data.count(b"\n") for name, data in files.items() if name.endswith(".jsonl")},
        "left_out": dict(sorted(left_out.items())),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    files["manifest.json"] = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    return files


def write_export(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files into a new folder.

    Raises:
        RunError: the folder holds something already, or cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"output folder '{folder}' is not an empty folder; name a new one. Nothing was changed.")
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise RunError(f"output folder '{folder}' cannot be written ({error.strerror}). Name another one.") from None


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """The files as a zip, with one fixed date so that the same content gives the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _factors(found: Sequence[Judgment], weigh: Weighing, weights: Mapping[str, Any]) -> dict[str, float]:
    for name, value in weights.items():
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise UsageError(f"weight of '{name}' is {shorten(value)}; a number above 0 is accepted.")
    right: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    names = {j.annotator.name for j in found}
    if unknown := sorted(weights.keys() - names):
        raise UsageError(f"weights name {', '.join(unknown)}, who did not judge; accepted: {', '.join(sorted(names))}.")
    for j in found:
        if j.assignment.kind == "gold" and j.vote.choice != "skip":
            answered[j.annotator.name] += 1
            right[j.annotator.name] += j.vote.choice == j.item.expected
    factors = {}
    for name in names:
        base = (right[name] + 1) / (answered[name] + 2) if weigh == "gold" else 1.0
        factors[name] = base * weights.get(name, 1.0)
    return factors


def _edits(session: Session) -> dict[str, list[_Edit]]:
    """The last revision of each correction, by item."""
    found: dict[tuple[str, str], tuple[str, _Edit]] = {}
    rows = session.execute(
        select(Correction, Annotator.name)
        .join(Annotator, Correction.annotator_id == Annotator.id)
        .order_by(Correction.created_at, Correction.revision, Correction.id)
    )
    for correction, name in rows:
        found[correction.assignment_id, correction.answer] = (correction.item_id, _Edit(correction, name))
    edits: dict[str, list[_Edit]] = defaultdict(list)
    for item, edit in found.values():
        edits[item].append(edit)
    return edits


def _examples(
    items: Mapping[str, Item],
    found: Sequence[Judgment],
    edits: Mapping[str, list[_Edit]],
    factors: Mapping[str, float],
    weigh: Weighing,
    left_out: Counter[str],
) -> Iterable[dict[str, Any]]:
    """Rows of the comparisons form: what counts among the votes that prefer one answer, and edits over originals."""
    votes: dict[str, list[Judgment]] = defaultdict(list)
    for j in found:
        if not j.counts:
            left_out[_why_not(j)] += 1
        elif j.vote.choice in ("a", "b"):
            votes[j.item.id].append(j)
        else:
            left_out[f"votes: {j.vote.choice.replace('_', ' ')}"] += 1
    for item in items.values():
        mine, corrections = votes.get(item.id, []), edits.get(item.id, [])
        if not mine and not corrections:
            continue
        if item.withdrawn or not _trainable(item):
            left_out["items: withdrawn" if item.withdrawn else "items: an empty answer or no question"] += 1
            continue
        yield _example(item, mine, corrections, factors, weigh)


def _why_not(j: Judgment) -> str:
    if j.vote.choice == "skip":
        return "votes: skipped"
    if j.assignment.kind != "regular":
        return f"votes: {j.assignment.kind}"
    if j.item.withdrawn:
        return "votes: item withdrawn"
    return "votes: repeat" if j.assignment.repeat else "votes: late"


def _trainable(item: Item) -> bool:
    last = item.prompt[-1]
    return bool(item.answer_a.strip() and item.answer_b.strip() and last["role"] == "user" and last["content"].strip())


def _example(
    item: Item, votes: Sequence[Judgment], edits: Sequence[_Edit], factors: Mapping[str, float], weigh: Weighing
) -> dict[str, Any]:
    responses = [item.answer_a.strip(), item.answer_b.strip()]
    comparisons, edited = [], []
    share = 1 / len(votes) if weigh == "item" and votes else 1.0
    for j in sorted(votes, key=lambda j: j.annotator.name):
        winner = 0 if j.vote.choice == "a" else 1
        weight = factors[j.annotator.name] * share
        comparisons.append({"winner": winner, "loser": 1 - winner, "weight": weight, "annotator": j.annotator.name})
    for edit in sorted(edits, key=lambda e: (e.annotator, e.correction.answer)):
        text, original = edit.correction.text.strip(), "ab".index(edit.correction.answer)
        if text not in responses:
            responses.append(text)
        winner = responses.index(text)
        if winner != original:
            weight = factors.get(edit.annotator, 1.0)
            comparisons.append({"winner": winner, "loser": original, "weight": weight, "annotator": edit.annotator})
            edited.append({"response": winner, "of": original, "annotator": edit.annotator, **_effort(edit.correction)})
    return {
        "prompt": item.prompt,
        "responses": responses,
        "comparisons": comparisons,
        "provenance": {
            "item": item.id,
            "batch": item.batch_id,
            "sources": [item.source_a, item.source_b],
            "inclusion_probability": item.inclusion,
            "edits": edited,
        },
    }


def _effort(correction: Correction) -> dict[str, Any]:
    seconds = None if correction.active_ms is None else correction.active_ms / 1000
    return {"edit_distance": correction.distance, "active_seconds": seconds}


def _trl_pairs(examples: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """TRL's conversational preference form, one row a comparison; it ignores the further columns."""
    for example in examples:
        for comparison in example["comparisons"]:
            yield {
                "prompt": example["prompt"],
                "chosen": [{"role": "assistant", "content": example["responses"][comparison["winner"]]}],
                "rejected": [{"role": "assistant", "content": example["responses"][comparison["loser"]]}],
                "weight": comparison["weight"],
                "annotator": comparison["annotator"],
                "item": example["provenance"]["item"],
            }


def _sft_rows(examples: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """TRL's conversational prompt-completion form: the corrected answers."""
    for example in examples:
        for edit in example["provenance"]["edits"]:
            yield {
                "prompt": example["prompt"],
                "completion": [{"role": "assistant", "content": example["responses"][edit["response"]]}],
                "annotator": edit["annotator"],
                "item": example["provenance"]["item"],
            }


def _judged(item: Item) -> tuple[judged.Answer, judged.Answer]:
    """The two answers as judges name them, so that people's and judges' verdicts on a pair meet under one id."""
    prompt = tuple(Message.model_validate(turn) for turn in item.prompt)
    name = judged.prompt_id(prompt)
    a, b = (
        # Rows of a file have one answer a model; only a run samples a prompt several times.
        judged.Answer(name, prompt, model, text, source.get("sample", 0) if "step" in source else 0)
        for model, text, source in zip(
            model_names(item), (item.answer_a, item.answer_b), (item.source_a, item.source_b), strict=True
        )
    )
    return a, b


def _verdicts(found: Iterable[Judgment]) -> Iterable[Verdict]:
    """Every vote that holds, less practice, late ones and withdrawn items, for ``safetyvalve stats``."""
    for j in found:
        if j.assignment.kind == "practice" or j.item.withdrawn or j.assignment.state == "late":
            continue
        a, b = _judged(j.item)
        skipped = j.vote.choice == "skip"
        yield Verdict.model_validate(
            {
                "item_id": judged.item_id(a, b),
                "prompt_id": a.prompt_id,
                "model_a": a.model,
                "model_b": b.model,
                "verdict": "none" if skipped else j.vote.choice,
                "rater": j.annotator.name,
                "rater_kind": "human",
                "position": "b_first" if j.vote.swapped else "a_first",
                "repeat": j.assignment.repeat,
                "length_a": len(j.item.answer_a),
                "length_b": len(j.item.answer_b),
                "time": datetime.fromtimestamp(j.vote.created_at / 1000, UTC),
                "seconds": None if j.vote.active_ms is None else j.vote.active_ms / 1000,
                "strength": j.vote.strength,
                "tags": ("skipped",) if skipped else tuple(j.vote.tags),
                "gold": j.assignment.kind == "gold",
                "inclusion_probability": j.item.inclusion,
            }
        )


_COLUMNS = (
    "item,kind,prompt,source_a,source_b,annotator,repeat,choice,shown_first,strength,tags,active_seconds,state,"
    "created_at"
)


def _csv(found: Iterable[Judgment]) -> bytes:
    """Every vote that holds, for a spreadsheet: UTF-8 with a byte order mark, cells that no program runs."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(_COLUMNS.split(","))
    for j in found:
        seconds = "" if j.vote.active_ms is None else j.vote.active_ms / 1000
        when = datetime.fromtimestamp(j.vote.created_at / 1000, UTC).isoformat(timespec="seconds")
        cells = (
            *(j.item.id, j.assignment.kind, j.item.prompt[-1]["content"], *model_names(j.item), j.annotator.name),
            *(j.assignment.repeat, j.vote.choice, "b" if j.vote.swapped else "a", j.vote.strength or ""),
            *(" ".join(j.vote.tags), seconds, j.assignment.state, when),
        )
        writer.writerow([safe_cell(c) for c in cells])
    return stream.getvalue().encode("utf-8-sig")


def _jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
