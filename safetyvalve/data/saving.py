"""Examples to a file that :func:`safetyvalve.data.load_preferences` reads back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetyvalve.data.schema import PreferenceExample

__all__ = ["save_preferences"]


def save_preferences(examples: Iterable[PreferenceExample], file: str | Path) -> int:
    """Write JSON lines of the form ``comparisons``, a ``baseline`` where there is one; returns the number of rows.

    The file appears when it is whole. Read back, every example has the same id; ``place`` is where it stands now.
    """
    target = Path(file)
    partial = target.with_name(target.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8", newline="\n") as opened:
        for example in examples:
            opened.write(json.dumps(_row(example), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(target)
    return count


def _row(example: PreferenceExample) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt": [m.model_dump() for m in example.prompt],
        "responses": [r.content for r in example.responses],
        "comparisons": [c.model_dump(exclude_defaults=True) for c in example.comparisons],
    }
    if example.baseline:
        row["baseline"] = [r.content for r in example.baseline]
    return row
