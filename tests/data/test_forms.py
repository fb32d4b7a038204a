"""Rows of each form, and what is refused or dropped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from safetyvalve.data import Comparison, Message, load_preferences, parse_transcript
from safetyvalve.errors import DataError, UsageError


def write(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    file = folder / name
    file.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows), "utf-8"
    )
    return file


PAIR = {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."}
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "こんにちは"}]


class TestPair:
    def test_texts(self, tmp_path: Path) -> None:
        (example,) = load_preferences(write(tmp_path, [PAIR])).examples
        assert example.prompt == (Message(role="user", content="Say hello."),)
        assert [r.content for r in example.responses] == ["Hello!", "No."]
        assert example.comparisons == (Comparison(winner=0, loser=1),)

    @pytest.mark.parametrize(
        "chosen",
        ["はい。", [{"role": "assistant", "content": "はい。"}], [*CHAT, {"role": "assistant", "content": "はい。"}]],
    )
    def test_messages(self, tmp_path: Path, chosen: Any) -> None:
        row = {"prompt": CHAT, "chosen": chosen, "rejected": "いいえ。"}
        (example,) = load_preferences(write(tmp_path, [row])).examples
        assert [m.role for m in example.prompt] == ["system", "user"]
        assert example.responses[0].content == "はい。"

    def test_gzip_and_byte_order_mark(self, tmp_path: Path) -> None:
        file = tmp_path / "named-anything"
        file.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\n\n"))
        assert len(load_preferences(file).examples) == 1

    def test_a_line_separator_inside_a_text_is_no_new_row(self, tmp_path: Path) -> None:
        row = PAIR | {"chosen": "one\u2028two"}
        assert load_preferences(write(tmp_path, [row])).examples[0].responses[0].content == "one\u2028two"


class TestTranscript:
    def test_split_at_the_last_assistant_turn(self) -> None:
        prompt, answer = parse_transcript("\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: D\n\nstill D")
        assert [(m.role, m.content) for m in prompt] == [("user", "A"), ("assistant", "B"), ("user", "C")]
        assert answer == " D\n\nstill D"

    @pytest.mark.parametrize(
        "text",
        ["plain", "\n\nHuman: A", "\n\nHuman: A\n\nAssistant: B\n\nHuman: C", "lead\n\nHuman: A\n\nAssistant: B"],
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(DataError, match="turns opened by"):
            parse_transcript(text)

    def test_common_openings_stay_in_the_answers(self, tmp_path: Path) -> None:
        """A split by common prefix would eat 'I think'."""
        row = {s: f"\n\nHuman: Q\n\nAssistant: I think {s}" for s in ("chosen", "rejected")}
        (example,) = load_preferences(write(tmp_path, [row])).examples
        assert [r.content for r in example.responses] == ["I think chosen", "I think rejected"]

    def test_other_prompts_are_dropped_and_counted(self, tmp_path: Path) -> None:
        good = {s: f"\n\nHuman: Q\n\nAssistant: {s}" for s in ("chosen", "rejected")}
        bad = good | {"rejected": "\n\nHuman: other\n\nAssistant: x"}
        loaded = load_preferences(write(tmp_path, [good, bad]), max_drop=0.5)
        assert [(d.row, d.reason) for d in loaded.report.dropped] == [(2, "prompts of chosen and rejected differ")]


class TestComparisons:
    ROW: ClassVar[dict[str, Any]] = {
        "prompt": "Q",
        "responses": ["a", "b", "c"],
        "comparisons": [{"winner": 2, "loser": 0, "weight": 0.5}],
    }

    def test_read(self, tmp_path: Path) -> None:
        (example,) = load_preferences(write(tmp_path, [self.ROW])).examples
        assert example.comparisons == (Comparison(winner=2, loser=0, weight=0.5),)

    @pytest.mark.parametrize(
        ("change", "fragment"),
        [
            ({"comparisons": [{"winner": 3, "loser": 0}]}, "names a response that is not there"),
            ({"comparisons": [{"winner": 1, "loser": 1}]}, "compares a response with itself"),
            ({"comparisons": [{"winner": 1, "loser": 0, "weight": -1}]}, "greater than 0"),
            ({"comparisons": [{"winner": 1}]}, "comparisons.0.loser"),
            ({"responses": "abc"}, "list of texts"),
        ],
    )
    def test_refused(self, tmp_path: Path, change: dict[str, Any], fragment: str) -> None:
        with pytest.raises(DataError, match=fragment) as error:
            load_preferences(write(tmp_path, [self.ROW, self.ROW | change]))
        assert error.value.row == 2


@pytest.mark.parametrize(
    ("rows", "fragments"),
    [
        ([PAIR, "{oops"], [":2", "is not JSON"]),
        ([PAIR, "[1]"], [":2", "a JSON object is accepted"]),
        ([PAIR, {"prompt": "x", "chosen": "y"}], [":2", "'rejected'", "is missing"]),
        ([PAIR | {"chosen": 3}], [":1", "'chosen'", "3"]),
        ([PAIR | {"prompt": [{"role": "boss", "content": "x"}]}], [":1", "prompt[0]", "'boss'"]),
        ([{"question": "x"}], [":1", "'question'", "no known form"]),
        ([], ["has no rows"]),
        ([PAIR | {"rejected": " "}], [":1", "rejected response is empty", "--max-drop 0.01"]),
    ],
)
def test_errors_name_place_and_value(tmp_path: Path, rows: list[Any], fragments: list[str]) -> None:
    with pytest.raises(DataError) as error:
        load_preferences(write(tmp_path, rows))
    assert all(f in str(error.value) for f in ["data.jsonl", *fragments]), str(error.value)


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "sjis.jsonl"
    file.write_bytes('{"prompt": "質問", "chosen": "はい", "rejected": "いいえ"}\n'.encode("cp932"))
    with pytest.raises(DataError, match=r"sjis\.jsonl:1.*not UTF-8.*cp932"):
        load_preferences(file)


def test_half_a_gzip_file(tmp_path: Path) -> None:
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(PAIR).encode() * 50)[:-20])
    with pytest.raises(DataError, match="not a whole gzip file"):
        load_preferences(file)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_preferences(tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        load_preferences(tmp_path)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format is 'xml'; accepted: auto, pair"):
        load_preferences(write(tmp_path, [PAIR]), form="xml")


def test_report_counts(tmp_path: Path) -> None:
    rows = [PAIR, PAIR, PAIR | {"chosen": "No."}, {"prompt": "Q", "chosen": "a", "rejected": "bb"}]
    report = load_preferences(write(tmp_path, rows), max_drop=0.5).report
    assert (report.rows, report.kept, len(report.dropped), report.duplicates) == (4, 3, 1, 1)
    assert report.reasons().keys() == {"chosen and rejected are equal"}
    assert report.longer_won == pytest.approx(2 / 3)
    text = "\n".join(report.lines())
    assert "dropped  1 (25.00%)" in text
    assert "row 3" in text


def test_example_id_depends_on_content_only(tmp_path: Path) -> None:
    one = load_preferences(write(tmp_path, [PAIR, PAIR | {"prompt": "Other."}])).examples
    two = load_preferences(write(tmp_path, [PAIR | {"prompt": "Other."}, PAIR], "b.jsonl")).examples
    assert [e.id for e in one] == [e.id for e in two][::-1]
    assert one[0].id != one[1].id
