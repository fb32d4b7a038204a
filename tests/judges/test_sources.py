"""Answers from run folders and files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError, RunError, UsageError
from safetyvalve.judges import read_answers, read_pairs


def make_run(folder: Path, steps: dict[int, Iterable[tuple[str, str]]]) -> Path:
    """A run folder as training leaves it: (prompt, response) samples by step."""
    (folder / "samples").mkdir(parents=True)
    for step, samples in steps.items():
        rows = [{"probe": p, "prompt": [{"role": "user", "content": p}], "response": r} for p, r in samples]
        lines(folder / "samples" / f"step-{step:06d}.jsonl", rows)
    return folder


def lines(file: Path, rows: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return file


def test_a_run_alone_is_compared_with_its_start(tmp_path: Path) -> None:
    run = make_run(tmp_path / "rpo", {0: [("p", "old"), ("p", "old2")], 40: [("p", "new"), ("p", "new2")]})
    pairs = read_pairs([str(run)]).pairs
    assert [(p.model_a, p.model_b, p.answers) for p in pairs] == [
        ("rpo step 0", "rpo step 40", ("old", "new")),
        ("rpo step 0", "rpo step 40", ("old2", "new2")),
    ]
    assert len({p.prompt_id for p in pairs}) == 1


def test_several_runs_meet_at_their_last_or_at_a_named_step(tmp_path: Path) -> None:
    one = make_run(tmp_path / "dpo", {0: [("p", "0")], 10: [("p", "10")]})
    two = make_run(tmp_path / "rpo", {0: [("p", "0")], 20: [("p", "20")]})
    assert read_pairs([str(one), str(two)]).pairs[0].answers == ("10", "20")
    assert read_pairs([f"{one}@first", f"{two}@20"]).pairs[0].answers == ("0", "20")
    with pytest.raises(RunError, match=r"no samples at step '7'; there are 0, 10"):
        read_pairs([f"{one}@7", str(two)])


def test_paths_that_are_no_source(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        read_pairs([str(tmp_path / "nothing")])
    with pytest.raises(RunError, match="has no samples"):
        read_pairs([str(tmp_path), str(tmp_path)])
    with pytest.raises(UsageError, match="no run or file"):
        read_pairs([])
    with pytest.raises(DataError, match="holds no answers"):
        read_pairs([str(lines(tmp_path / "empty.jsonl", []))])


FORMS: list[list[dict[str, Any]]] = [
    [{"prompt": "p", "model": "x", "answer": "1"}, {"prompt": "p", "model": "y", "answer": ""}],
    [{"prompt": [{"role": "user", "content": "p"}], "responses": {"x": "1", "y": ""}}],
    [{"prompt": "p", "responses": [{"model": "x", "text": "1"}, {"model": "y", "text": ""}]}],
    [{"prompt": "p", "model_a": "x", "answer_a": "1", "model_b": "y", "answer_b": ""}],
    [
        {"instruction": "p", "output": "1", "generator": "x"},
        {"instruction": "p", "output": "", "generator": "y", "dataset": "d"},
    ],
]


@pytest.mark.parametrize("rows", FORMS)
def test_all_forms_of_the_same_answers_are_the_same_item(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (pair,) = read_pairs([str(lines(tmp_path / "a.jsonl", rows))]).pairs
    (first,) = read_pairs([str(lines(tmp_path / "b.jsonl", FORMS[0]))]).pairs
    assert pair == first
    assert pair.answers == ("1", "")
    as_array = tmp_path / "a.json"
    as_array.write_text(json.dumps(rows))
    assert read_pairs([str(as_array)]).pairs == (pair,)


def test_given_ids_are_kept(tmp_path: Path) -> None:
    row = {
        "prompt": "p",
        "model_a": "x",
        "answer_a": "1",
        "model_b": "y",
        "answer_b": "2",
        "item_id": "i",
        "prompt_id": 5,
    }
    (pair,) = read_pairs([str(lines(tmp_path / "a.jsonl", [row]))]).pairs
    assert (pair.id, pair.prompt_id) == ("i", "5")
    with pytest.raises(DataError, match=r"a.jsonl:2: item 'i' stands on .*a.jsonl:1 already"):
        read_pairs([str(lines(tmp_path / "a.jsonl", [row, row]))])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "p"}, r":2: has the fields 'prompt'; accepted: prompt, model and answer"),
        ({"prompt": "p", "model": "y", "answer": 3}, r":2, field 'answer': is 3; a text is needed"),
        ({"prompt": "p", "model": " ", "answer": "3"}, r"field 'model': is empty"),
        ({"prompt": [], "model": "y", "answer": "3"}, r"field 'prompt': is \[\]"),
        ({"prompt": [{"role": "robot", "content": ""}], "model": "y", "answer": "3"}, r"field 'prompt'"),
        ({"prompt": "p", "model": "y", "answer": "3", "sample": -1}, r"field 'sample': is -1"),
        ({"prompt": "p", "model": "y", "answer": "3", "sample": True}, r"field 'sample': is True"),
        ({"prompt": "p", "responses": ["1", "2"]}, r"field 'responses': .*models' names"),
        ({"prompt": "p", "model": "x", "answer": "again"}, r":2: model 'x' has a second answer .*a.jsonl:1"),
        ({"prompt": "p", "model": "y", "answer": "\ud800"}, r":2: has half of a surrogate pair"),
    ],
)
def test_rows_that_cannot_be_read_are_named(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [
        {"prompt": "p", "model": "x", "answer": "1"},
        row,
        {"prompt": "p", "model": "y", "answer": "2", "sample": 9},
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(DataError, match=says):
        read_pairs([str(file)])


def test_a_pair_of_one_model_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "p", "model_a": "x", "answer_a": "1", "model_b": "x", "answer_b": "2"}
    with pytest.raises(DataError, match="field 'model_b': is 'x' as model_a is"):
        read_pairs([str(lines(tmp_path / "a.jsonl", [row]))])


def test_text_of_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes('{"prompt": "日本"}'.encode("cp932"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read_answers([str(file)])
