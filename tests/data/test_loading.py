"""What loading adds to the forms: report, ids, places, baselines, and errors that name their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.data import Response, load_preferences
from safetyvalve.errors import DataError, UsageError
from tests.data.files import PAIR, write


@pytest.mark.parametrize(
    ("rows", "fragments"),
    [
        ([PAIR, "{oops"], [":2", "is not JSON", "{oops"]),
        ([PAIR, "[1]"], [":2", "a JSON object is accepted"]),
        ([PAIR, '{"prompt": "a", "prompt": "b"}'], [":2", "field 'prompt'", "stands twice"]),
        ([PAIR, {"prompt": "x", "chosen": "y"}], [":2", "'rejected'", "is missing"]),
        ([PAIR | {"chosen": 3}], [":1", "'chosen'", "3"]),
        ([PAIR | {"prompt": [{"role": "boss", "content": "x"}]}], [":1", "prompt[0]", "'boss'"]),
        ([], ["has no rows"]),
        (["", "  "], ["has no rows"]),
        ([PAIR | {"rejected": " "}], [":1", "rejected response is empty", "--max-drop 0.01"]),
        ([PAIR, PAIR | {"rejected": "Hello!"}], [":2", "chosen and rejected are equal", "'Hello!'"]),
        ([PAIR | {"id": "甲"}, PAIR | {"id": "乙"}, PAIR | {"id": "甲"}], [":3", "field 'id'", "'甲'", "data.jsonl:1"]),
        (['{"prompt": "\\ud83d", "chosen": "a", "rejected": "b"}'], [":1", "surrogate"]),
    ],
)
def test_errors_name_place_and_value(tmp_path: Path, rows: list[Any], fragments: list[str]) -> None:
    with pytest.raises(DataError) as error:
        load_preferences(write(tmp_path, rows))
    assert all(f in str(error.value) for f in ["data.jsonl", *fragments]), str(error.value)
    assert "\n" not in str(error.value)


def test_max_drop_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max-drop is 2"):
        load_preferences(write(tmp_path, [PAIR]), max_drop=2)


def test_report_counts(tmp_path: Path) -> None:
    rows = [PAIR, PAIR, PAIR | {"chosen": "No."}, {"prompt": "Q", "chosen": "a", "rejected": "bb"}]
    report = load_preferences(write(tmp_path, rows), max_drop=0.5).report
    assert (report.rows, report.kept, len(report.dropped), report.duplicates) == (4, 3, 1, 1)
    assert report.reasons().keys() == {"chosen and rejected are equal"}
    assert report.longer_won == pytest.approx(2 / 3)
    assert (report.source, report.encoding, report.form) == ("JSONL", "UTF-8", "pair")
    text = "\n".join(report.lines())
    assert "JSONL, UTF-8, form pair, 4 rows" in text
    assert "dropped  1 (25.00%)" in text
    assert "row 3" in text


def test_example_id_depends_on_content_only(tmp_path: Path) -> None:
    one = load_preferences(write(tmp_path, [PAIR, PAIR | {"prompt": "Other."}])).examples
    two = load_preferences(write(tmp_path, [PAIR | {"prompt": "Other."}, PAIR], "b.jsonl")).examples
    assert [e.id for e in one] == [e.id for e in two][::-1]
    assert one[0].id != one[1].id


def test_place(tmp_path: Path) -> None:
    file = write(tmp_path, ["", PAIR, "", PAIR])
    places = [str(e.place) for e in load_preferences(file).examples]
    assert places == [f"{file}:2", f"{file}:4"]


class TestBaseline:
    @pytest.mark.parametrize(("value", "texts"), [("基準。", ["基準。"]), (["一", " 二 "], ["一", "二"])])
    def test_text_or_texts(self, tmp_path: Path, value: Any, texts: list[str]) -> None:
        file = write(tmp_path, [PAIR | {"sft": value}])
        (example,) = load_preferences(file, baseline_column="sft").examples
        assert example.baseline == tuple(Response(content=t) for t in texts)
        (plain,) = load_preferences(file).examples
        assert plain.baseline == ()
        assert plain.id == example.id

    @pytest.mark.parametrize("value", [None, "", " ", [], ["a", ""], 3, [1]])
    def test_refused(self, tmp_path: Path, value: Any) -> None:
        file = write(tmp_path, [PAIR | {"sft": "x"}, PAIR | {"sft": value}])
        with pytest.raises(DataError, match=r":2: field 'sft': is .*accepted as baseline"):
            load_preferences(file, baseline_column="sft")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r":1: field 'sft': is missing"):
            load_preferences(write(tmp_path, [PAIR]), baseline_column="sft")


def test_plain_files_need_no_optional_package(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, safetyvalve; safetyvalve.load_preferences(sys.argv[1]);"
        "print([m for m in ('pyarrow', 'datasets', 'transformers', 'torch') if m in sys.modules])"
    )
    file = write(tmp_path, [PAIR])
    out = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True).stdout
    assert json.loads(out.replace("'", '"')) == []
