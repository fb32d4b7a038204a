"""Verdict files: the forms that are read, what every mistake is told, and one verdict a rater and item."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError
from safetyvalve.stats import append_verdicts, read_verdicts, resolve
from tests.stats.simulated import verdict, verdicts


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def test_ours_in_every_container(tmp_path: Path) -> None:
    """JSONL, gzip, JSON and CSV of the same records give the same records."""
    expected = tuple(verdicts({"x": 0.5, "y": 0.0}, 3, judge="j"))
    file = tmp_path / "v.jsonl"
    append_verdicts(file, expected)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    (tmp_path / "v.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    (tmp_path / "v.json").write_text(json.dumps(rows))
    with (tmp_path / "v.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows([{k: v for k, v in r.items() if k != "tags"} | {"tags": ""} for r in rows])
    for name in ("v.jsonl", "v.jsonl.gz", "v.json", "v.csv"):
        found = read_verdicts(tmp_path / name)
        assert (found.verdicts, found.ignored, found.form) == (expected, (), "verdicts")


def test_common_names(tmp_path: Path) -> None:
    """Chatbot Arena's columns: winner, judge, question_id, and what is not used is named."""
    base = {"question_id": 81, "model_a": "x", "model_b": "y", "judge": "gpt-4", "turn": 1, "tstamp": 1.5}
    file = write(
        tmp_path / "v.jsonl", [base | {"winner": w} for w in ("model_a", "model_b", "tie", "tie (bothbad)", "y", None)]
    )
    found = read_verdicts(file)
    assert [v.verdict for v in found.verdicts] == ["a", "b", "tie", "both_bad", "b", "none"]
    assert [v.repeat for v in found.verdicts] == [0, 1, 2, 3, 4, 5]
    assert {v.item_id for v in found.verdicts} == {"81|1|x|y"}
    assert {v.rater_kind for v in found.verdicts} == {"judge"}
    assert found.ignored == ("tstamp",)
    assert {v.rater_kind for v in read_verdicts(file, rater_kind="human").verdicts} == {"human"}


def test_answers_give_lengths_and_long_prompts_an_id(tmp_path: Path) -> None:
    row = {"prompt": "あ" * 100, "model_1": "x", "model_2": "y", "annotator": "n", "verdict": "a"}
    found = read_verdicts(
        write(tmp_path / "v.jsonl", [row | {"answer_a": "短い答え\u2028です", "answer_b": ""}])
    ).verdicts[0]
    assert (found.length_a, found.length_b, found.rater_kind, len(found.prompt_id)) == (7, 0, "human", 16)


def test_pandalm_form(tmp_path: Path) -> None:
    row = {"cmp_key": "x_y", "instruction": "Say.", "input": "", "response1": "ab", "response2": "abc"}
    found = read_verdicts(write(tmp_path / "v.jsonl", [row | {"annotator1": 2, "annotator2": 0, "judge_g": "rubbish"}]))
    assert [(v.rater, v.verdict, v.rater_kind, v.length_b) for v in found.verdicts] == [
        ("annotator1", "b", "human", 3),
        ("annotator2", "tie", "human", 3),
        ("g", "none", "judge", 3),
    ]


GOOD = {"prompt_id": "p", "model_a": "x", "model_b": "y", "rater": "r", "rater_kind": "human", "verdict": "a"}


@pytest.mark.parametrize(
    ("rows", "fragments"),
    [
        ([], ["there are no verdicts"]),
        ([GOOD, GOOD | {"verdict": 1}], ["v.jsonl:2", "the verdict is 1", "both_bad", "their meaning differs"]),
        ([GOOD | {"prompt_id": None}], ["there is no 'prompt_id'", "question_id"]),
        ([{k: v for k, v in GOOD.items() if k != "rater"}], ["there is no rater", "annotator"]),
        ([{k: v for k, v in GOOD.items() if k != "rater_kind"}], ["there is no 'rater_kind'", "--rater-kind"]),
        ([GOOD | {"length_a": -3}], ["field 'length_a'", "got -3"]),
        ([GOOD | {"model_b": "x"}], ["both 'x'"]),
        ([GOOD | {"position": "left"}], ["field 'position'", "'left'"]),
        ([GOOD | {"repeat": 0}, GOOD | {"repeat": 0}], ["v.jsonl:2", "repeat 0 on row 1 already"]),
        ([["a"]], ["is ['a']; a JSON object"]),
        ([{"cmp_key": "x_y_z", "annotator1": 1}], ["cmp_key is 'x_y_z'"]),
        ([{"cmp_key": "x_y", "annotator1": 7}], ["annotator1 is 7; 0 (tie), 1 and 2"]),
    ],
)
def test_mistakes_name_place_value_and_remedy(tmp_path: Path, rows: list[Any], fragments: list[str]) -> None:
    with pytest.raises(DataError) as error:
        read_verdicts(write(tmp_path / "v.jsonl", rows))
    assert all(f in str(error.value) for f in fragments)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_verdicts(tmp_path / "none.jsonl")
    (tmp_path / "v.jsonl").write_text('{"a": 1}\n{')
    with pytest.raises(DataError, match=r"v.jsonl:2: is not valid JSON"):
        read_verdicts(tmp_path / "v.jsonl")
    (tmp_path / "v.csv").write_bytes("モデル".encode("cp932"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read_verdicts(tmp_path / "v.csv")
    (tmp_path / "w.csv").write_text("prompt_id,model_a\np\n")
    with pytest.raises(DataError, match="2 fields of the header"):
        read_verdicts(tmp_path / "w.csv")
    (tmp_path / "v.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="a list of objects"):
        read_verdicts(tmp_path / "v.json")
    (tmp_path / "v.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"v\.jsonl\.gz"):
        read_verdicts(tmp_path / "v.jsonl.gz")


@pytest.mark.parametrize(
    ("words", "kind", "expected", "disagreed"),
    [
        (("a", "a"), "judge", "a", False),
        (("a", "b"), "judge", "tie", True),
        (("a", "tie"), "judge", "tie", True),
        (("a", "none"), "judge", "none", False),
        (("a", "b"), "human", "a", False),
        (("none", "b"), "human", "b", False),
        (("none", "none"), "human", "none", False),
    ],
)
def test_one_verdict_a_rater_and_item(words: tuple[str, str], kind: str, expected: str, disagreed: bool) -> None:
    pair = [
        verdict(verdict=w, rater_kind=kind, repeat=k, position=p)
        for k, (w, p) in enumerate(zip(words, ("a_first", "b_first"), strict=True))
    ]
    (found,) = resolve(pair)
    assert (found.verdict, found.disagreed, found.orders) == (expected, disagreed, 2)


def test_models_are_put_in_order() -> None:
    """The same preference told from either side, in two orders, is one verdict."""
    one = verdict(model_a="y", model_b="x", verdict="a", length_a=5, length_b=9, rater_kind="judge", item_id="i")
    two = verdict(
        model_a="x", model_b="y", verdict="b", length_a=9, length_b=5, rater_kind="judge", item_id="i", repeat=1
    )
    (found,) = resolve([one, two])
    assert (found.model_a, found.verdict, found.length_a, found.score) == ("x", "b", 9, 0.0)


def test_gold_is_left_out() -> None:
    assert resolve([verdict(gold=True)]) == []
