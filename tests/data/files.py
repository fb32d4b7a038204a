"""Rows written to files, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAIR = {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."}


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def write(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    """JSON lines; a row that is a text is written as it is."""
    file = folder / name
    file.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows), "utf-8"
    )
    return file
