"""Prompts with responses: forms, refusals, and what becomes of equal prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.data import holds_demonstrations, load_demonstrations
from safetyvalve.errors import DataError, UsageError


def write(tmp_path: Path, *rows: Any) -> Path:
    file = tmp_path / "sft.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return file


FORMS: dict[str, dict[str, Any]] = {
    "trl-text": {"prompt": "水は?", "completion": " 湿っています。"},
    "trl-messages": {
        "prompt": [{"role": "user", "content": "水は?"}],
        "completion": [{"role": "assistant", "content": "湿っています。"}],
    },
    "response": {"prompt": "水は?", "response": "湿っています。"},
    "alpaca": {"instruction": "水は?", "input": "", "output": "湿っています。"},
    "conversation": {
        "messages": [{"role": "user", "content": "水は?"}, {"role": "assistant", "content": "湿っています。"}]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "水は?"}, {"from": "gpt", "value": "湿っています。"}]},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path: Path, form: str) -> None:
    file = write(tmp_path, FORMS[form])
    assert holds_demonstrations(file)
    loaded = load_demonstrations(file)
    (example,) = loaded.examples
    assert [(m.role, m.content) for m in example.prompt] == [("user", "水は?")]
    assert [r.content for r in example.responses] == ["湿っています。"]
    assert example.comparisons == ()
    assert (loaded.report.rows, loaded.report.kept, loaded.report.comparisons) == (1, 1, 0)


def test_only_the_last_turn_is_learned(tmp_path: Path) -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    file = write(tmp_path, {"messages": [{"role": r, "content": c} for r, c in turns]})
    (example,) = load_demonstrations(file).examples
    assert [m.content for m in example.prompt] == ["s", "a", "b", "c"]
    assert [r.content for r in example.responses] == ["d"]


def test_alpaca_input_belongs_to_the_prompt(tmp_path: Path) -> None:
    file = write(tmp_path, {"instruction": "Translate.", "input": "水", "output": "water"})
    assert load_demonstrations(file).examples[0].prompt[0].content == "Translate.\n\n水"


def test_equal_prompts_share_an_example(tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": r} for p, r in (("a", "1"), ("b", "1"), ("a", "2"), ("a", "1 "))]
    loaded = load_demonstrations(write(tmp_path, *rows))
    assert [[r.content for r in e.responses] for e in loaded.examples] == [["1", "2"], ["1"]]
    assert (loaded.report.rows, loaded.report.kept, loaded.report.duplicates) == (4, 4, 1)
    assert len({e.id for e in loaded.examples}) == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "response": "  "}, "response is empty"),
        ({"prompt": " ", "response": "b"}, "prompt ends with an empty turn"),
        ({"prompt": "a", "response": None}, "response is null or an empty cell"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages does not end with the assistant's turn"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages has no turn before the answer"),
    ],
)
def test_unusable_rows_are_dropped_with_the_reason(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good: dict[str, Any] = {"prompt": "q", "response": "r"}
    form = "prompt-response" if "prompt" in row else "conversation"
    rows = [good, row] if form == "prompt-response" else [row]
    report = load_demonstrations(write(tmp_path, *rows), form=form, max_drop=1.0).report
    assert [d.reason for d in report.dropped] == [reason]
    with pytest.raises(DataError, match=r"sft\.jsonl:\d.* rows would be dropped"):
        load_demonstrations(write(tmp_path, *rows), form=form)


@pytest.mark.parametrize(
    ("row", "fragment"),
    [
        ({"text": "all in one"}, r"sft\.jsonl:1: has the fields 'text', no known form"),
        ({"prompt": "a", "response": 3}, "field 'response'.* is 3"),
        ({"prompt": "a", "responses": "b"}, "field 'responses'.* a list of texts"),
        ({"prompt": "a", "completion": [{"role": "user", "content": "x"}]}, "one assistant message is accepted"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"field 'messages\[0\]'.* role 'tool'"),
        ({"messages": "hello"}, "is the text 'hello'; a list of messages"),
    ],
)
def test_malformed_rows_name_their_place(tmp_path: Path, row: dict[str, Any], fragment: str) -> None:
    with pytest.raises(DataError, match=fragment):
        load_demonstrations(write(tmp_path, row))


def test_comparisons_are_none_of_them(tmp_path: Path) -> None:
    for row in ({"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "responses": ["b"], "scores": [1]}):
        assert not holds_demonstrations(write(tmp_path, row))


def test_empty_files_and_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load_demonstrations(write(tmp_path))
    assert not holds_demonstrations(write(tmp_path))
    with pytest.raises(UsageError, match="format is 'pair'; accepted for demonstrations"):
        load_demonstrations(write(tmp_path), form="pair")
    with pytest.raises(UsageError, match="max-drop is 2"):
        load_demonstrations(write(tmp_path), max_drop=2)
