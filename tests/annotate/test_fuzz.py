"""schemathesis sends what nobody would to every address: the server never makes a mistake of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from safetyvalve.annotate import Database, Rules
from tests.annotate.material import Person, problems, write_answers

pytestmark = pytest.mark.slow


def send(person: Person, case: Any, csrf: str) -> Any:
    """One made-up request by somebody who is signed in, with a form that is ours, so that it gets past the guard."""
    body = case.body if isinstance(case.body, dict | list | str | int | float | bool) else None
    options: dict[str, Any] = {}
    if case.media_type == "application/json":
        options["json"] = body
    elif case.media_type is not None and isinstance(body, dict):
        fields = {k: v if isinstance(v, list) else _text(v) for k, v in body.items() if k != "file"}
        options["data"] = {k: [_text(x) for x in v] if isinstance(v, list) else v for k, v in fields.items()}
        options["data"]["csrf"] = csrf
        if case.media_type == "multipart/form-data":
            options["files"] = {"file": ("x.jsonl", _text(body.get("file", "")).encode("utf-8", "replace"))}
    query = {k: v for k, v in (case.query or {}).items() if k != "lang"}
    return person.client.request(
        case.method, case.formatted_path, params=query, headers={"x-csrf-token": csrf}, **options
    )


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


@pytest.mark.filterwarnings("ignore")
def test_no_5xx(serve: Callable[..., Any], database: Database, tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    rows = [{"prompt": f"P{i}", "responses": {"m": "x", "n": "y"}} for i in range(20)]
    app = serve(write_answers(tmp_path / "answers.jsonl", rows), rules=Rules(2, 0.5, 2), practice=True)
    people = [Person(app, database, role) for role in ("annotator", "admin", "reviewer")]
    people[0].practise()
    assignment = people[0].vote()
    schema = schemathesis.openapi.from_dict(app.openapi())
    tokens = {person: person.csrf("/") for person in people}
    statuses: Counter[int] = Counter()
    operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/sign-out":
            continue
        operations += 1

        @settings(
            max_examples=6,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            if "key" in (case.path_parameters or {}) and sum(statuses.values()) % 2:
                case.path_parameters["key"] = assignment  # half of the time one that exists
            for person, token in tokens.items():
                answer = send(person, case, token)
                statuses[answer.status_code] += 1
                assert answer.status_code < 500, (case.method, case.formatted_path, case.body, answer.text[:500])

        check()
    print(dict(statuses))
    assert operations > 25
    assert statuses[200] + statuses[303] > 50
    assert statuses[422] > 10
    assert problems(database) == []
