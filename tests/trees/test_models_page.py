"""docs/models.md says what the tests hold."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_models_page.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run `python docs/make_models_page.py`"
