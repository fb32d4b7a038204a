"""The examples of docs/data.md are read as the form under whose heading they stand."""

from __future__ import annotations

import re
from pathlib import Path

from safetyvalve.data import FORMS, load_preferences

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")


def test_examples(tmp_path: Path) -> None:
    sections = re.findall(r"^### `([\w-]+)`\n(?:(?!#).*\n)*?```json\n([^`]*)```", PAGE, re.MULTILINE)
    assert [form for form, _ in sections] == list(FORMS)
    for form, rows in sections:
        file = tmp_path / f"{form}.jsonl"
        file.write_text(rows, "utf-8")
        report = load_preferences(file).report
        assert (report.form, report.kept) == (form, rows.count("\n"))
