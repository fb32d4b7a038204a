"""Runs and answers made in code, and a client that signs in."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from starlette.testclient import TestClient

from safetyvalve.annotate import Database, Head, auth, verify
from safetyvalve.annotate.events import milliseconds

MODEL = "smollm2-135m"


def write_step(run: Path, step: int, answers: Mapping[str, Sequence[str]]) -> Path:
    """One file of samples as training writes it: answers by prompt."""
    rows = [
        {
            "probe": sha256(prompt.encode()).hexdigest()[:16],
            "prompt": [{"role": "user", "content": prompt}],
            "response": text,
            "tokens": len(text),
            "finished": True,
        }
        for prompt, texts in answers.items()
        for text in texts
    ]
    folder = run / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"step-{step:06d}.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return file


def make_run(folder: Path, prompts: int = 6, steps: Sequence[int] = (0, 10), n: int = 1) -> Path:
    """A run folder with samples."""
    folder.mkdir(parents=True)
    settings = {"name": folder.name, "model": MODEL}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for step in steps:
        answers = {
            f"Question {i}?": [f"Answer {i}.{k} of {folder.name[-1]} at {step}." for k in range(n)]
            for i in range(prompts)
        }
        write_step(folder, step, answers)
    return folder


def write_answers(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return file


def invite(database: Database, role: str = "annotator", **options: Any) -> str:
    with database.write() as session:
        return auth.invite(session, role, actor="test", now=milliseconds(), **options)


class Person:
    """Somebody with a browser that runs no scripts."""

    def __init__(self, app: Any, database: Database, role: str = "annotator", *, agree: bool = True) -> None:
        self.client = TestClient(app, base_url="http://127.0.0.1:8471", follow_redirects=False)
        self.client.portal = app.state.portal
        self.token = invite(database, role)
        answer = self.client.post(f"/invite/{self.token}")
        assert answer.status_code == 303, answer.text
        if role == "annotator" and agree:
            self.post("/guideline", agreed="yes")

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, **options)

    def csrf(self, path: str = "/progress") -> str:
        page = self.client.get(path, follow_redirects=True).text
        return re.search(r'name="csrf" content="(\w+)"', page)[1]  # type: ignore[index]

    def post(self, path: str, *, status: int = 303, **fields: Any) -> Any:
        answer = self.client.post(path, data={"csrf": self.csrf("/"), **fields})
        assert answer.status_code == status, answer.text
        return answer

    def item(self) -> dict[str, str] | None:
        """The page's form, or None where there is nothing to judge."""
        page = self.client.get("/judge").text
        found = re.search(r'action="/judge/(\w{32})"', page)
        if not found:
            return None
        csrf, vote = (re.search(p, page)[1] for p in (r'name="csrf" value="(\w+)"', r'name="id" value="([\w-]+)"'))  # type: ignore[index]
        return {"assignment": found[1], "csrf": csrf, "id": vote, "page": page}

    def vote(self, choice: str = "1", **fields: Any) -> str | None:
        """Judge the next item; returns its assignment."""
        item = self.item()
        if item is None:
            return None
        fields = {"csrf": item["csrf"], "id": item["id"], "choice": choice, **fields}
        answer = self.client.post(f"/judge/{item['assignment']}", data=fields)
        assert answer.status_code == 303, answer.text
        return item["assignment"]

    def practise(self) -> None:
        """Get the practice items out of the way."""
        while (item := self.item()) and 'class="practice"' in item["page"]:
            self.vote()

    def judge_all(self, choice: str = "1") -> list[str]:
        found = []
        while (assignment := self.vote(choice)) is not None:
            found.append(assignment)
        return found


def problems(database: Database, head: Head | None = None) -> list[str]:
    """What `annotate verify` would say."""
    with database.read() as session:
        return verify(session, head)


def new_id() -> str:
    return str(uuid.uuid4())
