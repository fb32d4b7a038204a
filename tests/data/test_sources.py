"""The same rows from every kind of file and folder, the encodings, and files that are broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyvalve.data import Loaded, load_preferences
from safetyvalve.data.sources.text import decode
from safetyvalve.errors import DataError, UsageError
from tests.data.files import PAIR, assistant, user, write

ROWS = [
    {"prompt": "日本の首都はどこですか。", "chosen": "東京です。", "rejected": "わかりません。"},
    {"prompt": "改行は？", "chosen": "一行目、\n二行目。", "rejected": '表示できない\u2028、"引用", ありません。'},
]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def put(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return file


def same(loaded: Loaded, tmp_path: Path) -> None:
    expected = load_preferences(write(tmp_path, ROWS, "expected.jsonl"))
    assert [e.id for e in loaded.examples] == [e.id for e in expected.examples]


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "content", "kind"),
        [
            ("a.jsonl", lines(ROWS), "JSONL"),
            ("named-anything", gzip.compress(lines(ROWS).encode()), "JSONL, gzip"),
            ("a.json", json.dumps(ROWS, indent=1), "JSON array"),
            ("a", json.dumps(ROWS, ensure_ascii=False), "JSON array"),
            ("a.csv", as_csv(ROWS), "CSV"),
            ("europe.csv", as_csv(ROWS, ";"), "CSV"),
            ("a.csv.gz", gzip.compress(as_csv(ROWS).encode()), "CSV, gzip"),
            ("a.tsv", as_csv(ROWS, "\t"), "TSV"),
            ("copied from a sheet", as_csv(ROWS, "\t"), "TSV"),
        ],
    )
    def test_recognised_and_said(self, tmp_path: Path, name: str, content: str | bytes, kind: str) -> None:
        loaded = load_preferences(put(tmp_path, name, content))
        assert (loaded.report.source, loaded.report.encoding, loaded.report.form) == (kind, "UTF-8", "pair")
        same(loaded, tmp_path)

    @pytest.mark.parametrize(("name", "first"), [("a.jsonl", 1), ("a.json", 1), ("a.csv", 2)])
    def test_rows_count_as_their_readers_do(self, tmp_path: Path, name: str, first: int) -> None:
        text = {"a.jsonl": lines(ROWS), "a.json": json.dumps(ROWS), "a.csv": as_csv(ROWS)}[name]
        examples = load_preferences(put(tmp_path, name, text)).examples
        assert [e.place.row for e in examples if e.place] == [first, first + 1]

    def test_csv_cells(self, tmp_path: Path) -> None:
        """Lists are JSON in their cells; a text that looks like a list stays a text; an empty cell is a null."""
        row = {"prompt": "[1]", "responses": '["あ", "い"]', "scores": "[1, 2.5]", "annotator": ""}
        (example,) = load_preferences(put(tmp_path, "a.csv", as_csv([row]))).examples
        assert (example.prompt[0].content, example.comparisons[0].annotator) == ("[1]", None)
        assert [example.responses[c.winner].content for c in example.comparisons] == ["い"]
        report = load_preferences(put(tmp_path, "b.csv", as_csv([*ROWS, ROWS[0] | {"chosen": ""}])), max_drop=1).report
        assert [(d.row, d.reason) for d in report.dropped] == [(4, "chosen is null or an empty cell")]

    def test_a_response_longer_than_the_csv_module_takes(self, tmp_path: Path) -> None:
        limit = csv.field_size_limit()
        rows = [ROWS[0] | {"chosen": "長" * (limit + 1)}]
        assert len(load_preferences(put(tmp_path, "a.csv", as_csv(rows))).examples) == 1
        assert csv.field_size_limit() == limit


class TestEncodings:
    @pytest.mark.parametrize("kind", ["csv", "jsonl"])
    @pytest.mark.parametrize(
        ("codec", "said"),
        [("utf-8-sig", "UTF-8 with BOM"), ("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("cp932", "cp932")],
    )
    def test_read_and_said(self, tmp_path: Path, kind: str, codec: str, said: str) -> None:
        # U+2028 is not in cp932; 表 and 能 end with the byte of a backslash there.
        rows = [{**row, "rejected": "表示する能力がありません。"} for row in ROWS]
        file = put(tmp_path, f"a.{kind}", as_csv(rows) if kind == "csv" else lines(rows), codec)
        loaded = load_preferences(file)
        assert loaded.report.encoding == said
        assert [e.responses[1].content for e in loaded.examples] == ["表示する能力がありません。"] * 2

    @pytest.mark.parametrize(
        ("text", "codec"),
        [
            ("Käse für Müller, façon naïve", "cp1252"),
            ("안녕하세요, 질문에 답해 주세요.", "euc_kr"),
            ("请回答这个问题，今天天气很好。", "gbk"),
            ("請回答這個問題，今天天氣很好。", "big5"),
            ("質問に答えてください。", "euc_jp"),
            ("Ответьте на вопрос", "cp1251"),
            ("東京", "cp932"),  # no kana: not beyond doubt
        ],
    )
    def test_never_guessed(self, tmp_path: Path, text: str, codec: str) -> None:
        file = put(tmp_path, "a.csv", as_csv([PAIR, PAIR | {"prompt": text}]), codec)
        with pytest.raises(DataError, match=r"a\.csv:3: byte \d+ is b.*not UTF-8.*--encoding"):
            load_preferences(file)
        loaded = load_preferences(file, encoding=codec)
        assert (loaded.examples[1].prompt[0].content, loaded.report.encoding) == (text, codec)

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.characters(codec="utf-8", min_codepoint=0x3041, max_codepoint=0x30FF), min_size=8), st.data())
    def test_damaged_utf8_is_not_taken_for_cp932(self, text: str, data: st.DataObject) -> None:
        raw = bytearray(text.encode())
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0x80, 0xFF))
        try:
            bytes(raw).decode()
        except UnicodeDecodeError:
            with pytest.raises(DataError, match="not UTF-8"):
                decode(bytes(raw), Path("x"))

    def test_named_but_wrong(self, tmp_path: Path) -> None:
        file = put(tmp_path, "a.csv", as_csv(ROWS))
        with pytest.raises(DataError, match=r"a\.csv:\d+: byte \d+ is .*not ascii"):
            load_preferences(file, encoding="ascii")
        for unknown in ("sjsi", "rot13"):
            with pytest.raises(UsageError, match=f"encoding is '{unknown}'"):
                load_preferences(file, encoding=unknown)

    def test_utf16_without_a_mark(self, tmp_path: Path) -> None:
        file = put(tmp_path, "a.csv", as_csv([PAIR]), "utf-16-le")
        with pytest.raises(DataError, match=r"NUL byte.*--encoding utf-16-le"):
            load_preferences(file)
        assert len(load_preferences(file, encoding="utf-16-le").examples) == 1


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("a.csv", "prompt,chosen,rejected\n問,はい,いいえ\n問,はい\n", [":3", "2 cells", "3", "['問', 'はい']"]),
        ("a.csv", 'prompt,chosen,rejected\n問,"はい,いいえ\n', [":2", "not well-formed CSV", "Close every quote"]),
        ("a.csv", "prompt,chosen,prompt\na,b,c\n", [":1", "'prompt' twice"]),
        ("a.csv", "問,はい,いいえ\n問,はい,いいえ\n", [":2", "no known form", "'問'"]),
        ("a.csv", "prompt,chosen,rejected\n", ["has no rows", "CSV"]),
        ("a.csv", b"", ["has no rows"]),
        ("notes.txt", "一行のメモ\n", [":1", "'一行のメモ'", "neither JSON"]),
        ("a.json", '[{"prompt": "問"},\n {"prompt"}]', [":2", "is not JSON", "column 11"]),
        ("a.json", '[{"prompt": "問", "chosen": "a", "rejected": "b"}, 3]', [":2", "is 3"]),
        ("a.jsonl", "[" * 100_000, ["nested too deeply"]),
        ("a.jsonl.gz", gzip.compress(lines(ROWS).encode() * 50)[:-20], ["not a whole gzip file"]),
        ("a.xlsx", b"PK\x03\x04...", ["Excel workbook", "CSV UTF-8"]),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd...", ["zstd", "gzip is accepted"]),
        ("a.parquet", b"", ["PAR1", "download it again"]),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str | bytes, fragments: list[str]) -> None:
    with pytest.raises(DataError) as error:
        load_preferences(put(tmp_path, name, content))
    assert all(f in str(error.value) for f in [name, *fragments]), str(error.value)
    assert "\n" not in str(error.value)


def test_messages_written_as_text(tmp_path: Path) -> None:
    """What pandas makes of lists in CSV; as a text it would be trained on."""
    row = PAIR | {"chosen": "[{'content': 'はい', 'role': 'assistant'}]"}
    with pytest.raises(DataError, match=r"a\.csv:2, field 'chosen'.*JSON lines or Parquet"):
        load_preferences(put(tmp_path, "a.csv", as_csv([row])))


def test_missing_file_and_other_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_preferences("x" * 300)
    with pytest.raises(DataError, match="does not exist"):
        load_preferences(tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match="neither Parquet files nor"):
        load_preferences(tmp_path)


class TestParquet:
    @pytest.fixture(autouse=True)
    def _needs_pyarrow(self) -> None:
        pytest.importorskip("pyarrow")

    @staticmethod
    def put(rows: list[dict[str, Any]], file: Path, **options: Any) -> Path:
        import pyarrow
        import pyarrow.parquet

        file.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
        return file

    def test_file(self, tmp_path: Path) -> None:
        loaded = load_preferences(self.put(ROWS, tmp_path / "named anything"))
        assert (loaded.report.source, loaded.report.encoding) == ("Parquet", None)
        same(loaded, tmp_path)

    def test_lists_of_messages_and_nulls(self, tmp_path: Path) -> None:
        row = {side: [user("問"), assistant(side)] for side in ("chosen", "rejected")}
        rows = [row | {"annotator": None}, row | {"chosen": None, "annotator": "田中"}]
        loaded = load_preferences(self.put(rows, tmp_path / "a.parquet"), max_drop=0.5)
        assert (loaded.report.form, loaded.report.kept) == ("implicit", 1)
        assert [(d.row, d.reason) for d in loaded.report.dropped] == [(2, "chosen is null or an empty cell")]

    def test_nan_score(self, tmp_path: Path) -> None:
        rows = [PAIR | {"score_chosen": s, "score_rejected": 0.0} for s in (1.0, float("nan"))]
        with pytest.raises(DataError, match=r"a\.parquet:2: field 'score_chosen': is nan"):
            load_preferences(self.put(rows, tmp_path / "a.parquet"))

    @pytest.mark.parametrize("keep", [20, 400])
    def test_truncated(self, tmp_path: Path, keep: int) -> None:
        file = self.put(ROWS, tmp_path / "a.parquet")
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"a\.parquet: is not a whole Parquet file \("):
            load_preferences(file)

    def test_damaged_inside(self, tmp_path: Path) -> None:
        file = self.put(ROWS, tmp_path / "a.parquet", compression="gzip")
        raw = bytearray(file.read_bytes())
        raw[4:120] = bytes(116)
        file.write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.parquet: is not a whole Parquet file \("):
            load_preferences(file)

    def test_text_that_is_not_utf8(self, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        texts = pyarrow.array([b"ok", "質問".encode("cp932")]).cast(pyarrow.binary())
        texts = pyarrow.Array.from_buffers(pyarrow.string(), 2, texts.buffers())
        file = tmp_path / "a.parquet"
        pyarrow.parquet.write_table(
            pyarrow.table({"prompt": texts, "chosen": ["a", "b"], "rejected": ["c", "d"]}), file
        )
        with pytest.raises(DataError, match=r"a\.parquet:2, field 'prompt'.*not UTF-8"):
            load_preferences(file)

    @pytest.mark.parametrize("inside", ["", "data"])
    def test_folder_of_shards(self, tmp_path: Path, inside: str) -> None:
        folder = tmp_path / "set"
        for number, row in enumerate(ROWS):
            self.put([row], folder / inside / f"train-0000{number}-of-00002.parquet")
        self.put([PAIR], folder / inside / "test-00000-of-00001.parquet")
        loaded = load_preferences(str(folder))
        assert loaded.report.source == "Parquet folder (2 files, split train)"
        assert [str(e.place).removeprefix(str(folder)).rpartition("/")[2] for e in loaded.examples] == [
            "train-00000-of-00002.parquet:1",
            "train-00001-of-00002.parquet:1",
        ]
        same(loaded, tmp_path)
        assert load_preferences(f"{folder}:test").report.kept == 1
        with pytest.raises(DataError, match="has no split 'dev'; accepted: test, train"):
            load_preferences(f"{folder}:dev")

    def test_splits_are_not_mixed(self, tmp_path: Path) -> None:
        for split in ("train_prefs", "test_prefs"):
            self.put([PAIR], tmp_path / "set" / f"{split}-00000-of-00001.parquet")
        with pytest.raises(DataError, match=r"has the splits test_prefs, train_prefs. Name one: .*set:test_prefs"):
            load_preferences(tmp_path / "set")

    def test_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = self.put(ROWS, tmp_path / "a.parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DataError, match=r"needs the package pyarrow .*pip install 'safetyvalve\[datasets\]'"):
            load_preferences(file)


class TestSaved:
    """Folders that ``datasets`` wrote."""

    @pytest.fixture(autouse=True)
    def _needs_datasets(self) -> None:
        pytest.importorskip("datasets")

    def test_dataset(self, tmp_path: Path) -> None:
        from datasets import Dataset

        # Selected and reordered rows are stored as such.
        Dataset.from_list([PAIR, *ROWS[::-1]]).select([2, 1]).save_to_disk(tmp_path / "set", num_shards=2)
        loaded = load_preferences(tmp_path / "set")
        assert loaded.report.source == "datasets folder"
        assert [e.place.row for e in loaded.examples if e.place] == [1, 2]
        same(loaded, tmp_path)
        with pytest.raises(DataError, match="without splits, and 'train' was asked for"):
            load_preferences(f"{tmp_path / 'set'}:train")

    def test_splits(self, tmp_path: Path) -> None:
        from datasets import Dataset, DatasetDict

        DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list([PAIR])).save_to_disk(tmp_path / "set")
        loaded = load_preferences(tmp_path / "set")
        assert loaded.report.source == "datasets folder (split train)"
        same(loaded, tmp_path)
        assert load_preferences(f"{tmp_path / 'set'}:test").report.kept == 1

    def test_broken(self, tmp_path: Path) -> None:
        put(tmp_path, "state.json", "{}")
        with pytest.raises(DataError, match=r"cannot be read by datasets \("):
            load_preferences(tmp_path)

    def test_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(tmp_path, "state.json", "{}")
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(DataError, match=r"needs the package datasets .*safetyvalve\[datasets\]"):
            load_preferences(tmp_path)
