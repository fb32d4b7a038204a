"""Nothing that an annotator can fetch names a model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from safetyvalve.annotate import Database, Rules
from safetyvalve.annotate.blinding import MASK, Mask
from tests.annotate.material import Person, make_run, new_id, write_answers, write_step

NAMES = ("smollm2-135m", "dpo-run-7", "rpo-run-8", "secret-model-x", "step-0", "step 10", "run-a")


@pytest.mark.parametrize(
    "text",
    [
        "I am ChatGPT.",
        "As a model by OpenAI I",
        "私はGeminiです。",
        "I'm Claude, made by Anthropic",
        "SmolLM2-135M-Instruct says",
        "Qwen2.5のモデル",
        "my run is dpo-run-7!",
        "DPO-RUN-7",
        "foo bar",
    ],
)
def test_identity_words_are_hidden(text: str) -> None:
    shown, n = Mask(["dpo-run-7", "base"], ["foo"])(text)
    assert n >= 1
    assert MASK in shown


@pytest.mark.parametrize(
    "text", ["Llamas eat grass.", "Claude Monet painted it.", "The twins of Gemini", "The base is food.", "qwerty"]
)
def test_ordinary_words_stay(text: str) -> None:
    assert Mask(["dpo-run-7", "base"])(text) == (text, 0)


def test_a_masked_item_shows_the_mask_and_is_not_editable(
    serve: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    rows = [{"prompt": "Who are you?", "responses": {"m-1": "I am ChatGPT.", "m-2": "A program."}}]
    one = Person(serve(write_answers(tmp_path / "answers.jsonl", rows)), database)
    item = one.item()
    assert item
    assert MASK in item["page"]
    assert "ChatGPT" not in item["page"]
    assert 'name="then" value="correct"' not in item["page"]
    key = item["assignment"]
    assert one.get(f"/judge/{key}/correct").status_code == 403
    one.post(f"/judge/{key}/correct", status=403, id=new_id(), answer="1", text="I am ChatGPT 2.")
    body = {"id": new_id(), "assignment": key, "answer": "1", "text": "x"}
    assert one.client.post("/api/corrections", json=body, headers={"x-csrf-token": item["csrf"]}).status_code == 403


def test_crawl(serve: Callable[..., Any], database: Database, tmp_path: Path) -> None:
    """Everything an annotator can reach, before, while and after judging: bodies, headers, addresses."""
    runs = [make_run(tmp_path / name, prompts=3) for name in ("dpo-run-7", "rpo-run-8")]
    write_step(runs[0], 20, {"Question 0?": ["I am dpo-run-7, a smollm2-135m."]})
    write_step(runs[1], 20, {"Question 0?": ["Not so."]})
    app = serve(*runs, rules=Rules(1, 1.0, 1), practice=True)
    rows = [
        {"prompt": f"G{i}", "responses": {"secret-model-x": f"I am secret-model-x {i}", "n": "w"}, "expected": "a"}
        for i in range(3)
    ]
    serve(write_answers(tmp_path / "gold.jsonl", rows), rules=Rules(1, 0, 1))
    app.state.site.refresh_mask()
    one = Person(app, database)
    seen: dict[str, str] = {}

    def fetch(path: str) -> str:
        answer = one.get(path)
        whole = f"{path}\n{answer.headers}\n{answer.text}"
        seen[path] = whole
        for name in NAMES:
            assert name.lower() not in whole.lower(), f"{name} in {path}"
        return str(answer.text)

    def crawl(start: str) -> None:
        waiting = [start]
        seen.pop(start, None)
        while waiting:
            path = waiting.pop()
            if path in seen:
                continue
            text = fetch(path)
            for link in re.findall(r'(?:href|src|action|data-send)="([^"]+)"', text):
                parts = urlsplit(link)
                if not parts.netloc and parts.path and parts.path != "/sign-out":
                    waiting.append(parts.path + (f"?{parts.query}" if parts.query else ""))

    assignments = []
    while (item := one.item()) is not None:
        crawl("/judge")
        assignments.append(item["assignment"])
        body = {"id": new_id(), "assignment": item["assignment"], "choice": "1", "strength": 2}
        answer = one.client.post("/api/votes", json=body, headers={"x-csrf-token": item["csrf"]})
        assert not any(n in answer.text + str(answer.headers) for n in NAMES)
        assert set(answer.json()) == {"id", "next"}
    for assignment in assignments:
        for page in ("", "/feedback", "/correct?answer=1", "/correct?answer=2", "/corrected"):
            fetch(f"/judge/{assignment}{page}")
    for path in ("/", "/progress", "/progress/mine.json", "/guideline?lang=ja", "/admin", "/results", "/openapi.json"):
        fetch(path)
    assert len(assignments) > 8
    assert "/static/app.js?0.1.0" in seen or any(p.startswith("/static/app.js") for p in seen)
