"""What looks like an address or a number, in English and Japanese, and what does not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from safetyvalve.data import examine, load_preferences
from safetyvalve.data.personal import find_personal, redact


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("write to taro.yamada+x@example.co.jp.", "e-mail", "taro.yamada+x@example.co.jp"),
        ("連絡はtaro@example.comまで", "e-mail", "taro@example.com"),
        ("ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍです", "e-mail", "ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
        ("電話は03-1234-5678です", "phone", "03-1234-5678"),
        ("携帯：090(1234)5678", "phone", "090(1234)5678"),
        ("０９０－１２３４－５６７８まで", "phone", "０９０－１２３４－５６７８"),
        ("090ー1234ー5678", "phone", "090ー1234ー5678"),
        ("tel 0312345678", "phone", "0312345678"),
        ("+81 90 1234 5678", "phone", "+81 90 1234 5678"),
        ("call (202) 555-0123 now", "phone", "(202) 555-0123"),
        ("+44 20 7946 0958", "phone", "+44 20 7946 0958"),
    ],
)
def test_found(text: str, kind: str, found: str) -> None:
    assert [(k, text[a:b]) for k, a, b in find_personal(text)] == [(kind, found)]


@pytest.mark.parametrize(
    "text",
    [
        "2024-11-22 10:30",
        "3.1415926535897",
        "ISBN 978-4-10-101010-6",
        "1234-5678-9012-3456",
        "150,000,000円",
        "192.168.100.200",
        "use @property and a@b",
        "〒100-0001",
    ],
)
def test_not_found(text: str) -> None:
    assert find_personal(text) == []


def test_never_in_full() -> None:
    text = redact("taro@example.com か 090-1234-5678 へ")
    assert text == "[e-mail t…] か [phone …78] へ"


def test_report_counts_and_locates_and_keeps_silent(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    data = [
        {"prompt": "連絡先は？", "chosen": "taro@example.com です", "rejected": "知りません"},
        {"prompt": "03-1234-5678 は誰？", "chosen": "taro@example.com か 03-1234-5678", "rejected": "さあ"},
        {"prompt": "same hanako@example.com", "chosen": "hanako@example.com", "rejected": "hanako@example.com"},
        {"prompt": "普通", "chosen": "はい", "rejected": "いいえ"},
    ]
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in data), "utf-8")
    report = examine(load_preferences(file, max_drop=0.5))
    assert report.personal is not None
    assert report.personal.counts == {"e-mail": 2, "phone": 2}
    assert report.personal.rows == 2
    assert [(f.kind, f.place.row, f.field) for f in report.personal.findings] == [
        ("e-mail", 1, "responses[0]"),
        ("phone", 2, "prompt[0]"),
        ("e-mail", 2, "responses[0]"),
        ("phone", 2, "responses[0]"),
    ]
    said = report.model_dump_json() + "\n".join(report.lines())
    assert not any(secret in said for secret in ("example.com", "1234-5678", "taro", "hanako"))


def test_long_texts_without_spaces_stay_fast() -> None:
    start = time.process_time()
    for text in ("a" * 200_000, "a@" * 50_000, "a." * 100_000 + "@", "1" * 100_000, "1-" * 50_000):
        find_personal(text)
    assert time.process_time() - start < 5
