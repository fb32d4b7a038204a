"""The pages without scripts: sign in, judge, correct, report, progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetyvalve.annotate import Database, Rules
from tests.annotate.material import Person, make_run


def test_thin_path(serve: Callable[..., Any], database: Database, tmp_path: Path) -> None:
    app = serve(make_run(tmp_path / "run-a"), make_run(tmp_path / "run-b"), rules=Rules(2, 0, 0), practice=True)
    one, two = Person(app, database), Person(app, database)
    one.practise()
    two.practise()
    assert len(one.judge_all("1")) == 12
    assert len(two.judge_all("2")) == 12
    assert one.item() is None
    admin = Person(app, database, "admin")
    for path in ("/", "/admin", "/admin/people", "/admin/items", "/admin/guideline", "/results"):
        assert admin.get(path).status_code in (200, 303), path
