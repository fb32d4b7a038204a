"""Hostile answers as HTML; what the browser makes of it is in test_browser.py."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyvalve.annotate import Database
from safetyvalve.annotate.rendering import LONGEST_MARKDOWN, render
from tests.annotate.material import Person, write_answers

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>x</a></svg>",
    "[click](javascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![beacon](https://evil.example/pixel.png?who=annotator)",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "<iframe src=https://evil.example></iframe><object data=x></object><embed src=x>",
    "<form action=https://evil.example><input name=csrf></form>",
    "<style>@import 'https://evil.example/a.css'; .ballot{display:none}</style>",
    "<a href=https://evil.example ping=https://evil.example>x</a>",
    "<https://evil.example/autolink>",
    "```html\n<script>alert(1)</script>\n```",
    "|a|\n|-|\n|<img src=x onerror=alert(1)>|",
    "<!--<script>alert(1)</script>-->",
    "<base href=https://evil.example/><meta http-equiv=refresh content='0;url=https://evil.example'>",
    "\u202eevil\u202c \u2066iso\u2069 \u200b\ufeff\x07 \U000e0041",
    '"><script>alert(1)</script>',
    "` `<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)></style></mglyph></math>",
]
_SAFE_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "span", "div"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


def check(html: str) -> None:
    """Only harmless tags; no attribute but class and start."""
    for tag, attributes in re.findall(r"<\s*/?([a-zA-Z!][\w:-]*)([^>]*)>", html):
        assert tag.lower() in _SAFE_TAGS, tag
        assert re.fullmatch(r'(?:\s+(?:class="[\w -]*"|start="\d+"|tabindex="0"))*\s*/?', attributes), attributes


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert(text: str) -> None:
    check(render(text))
    check(render(text + "x" * LONGEST_MARKDOWN))


@given(st.text(alphabet=st.sampled_from(list("<>\"'&=/[]()!`*_#|-\n \\:;aあ\u202e")), max_size=60))
def test_anything_is_inert(text: str) -> None:
    check(render(text))


def test_what_is_invisible_is_shown() -> None:
    html = render("a\u202eb\u200bc")
    assert "U+202E" in html
    assert "U+200B" in html
    assert "\u202e" not in html


def test_markdown_is_rendered() -> None:
    html = render("# T\n\n**b** `c`\n\n```python\nx = 1\n```\n\n|a|b|\n|-|-|\n|1|2|")
    for part in ("<h1>T</h1>", "<strong>b</strong>", '<pre tabindex="0"><code', "<td>2</td>"):
        assert part in html


def test_japanese_emphasis_needs_no_spaces() -> None:
    assert "<strong>「同じ」</strong>は" in render("**「同じ」**は")
    assert "<strong>注意：</strong>です" in render("これは**注意：**です")
    assert "<em>" not in render("2 * 3 * 4")


@pytest.mark.parametrize(
    "text",
    ["[a]: https://x.example 'hidden words'", "> " * 30 + "hidden words", "- " * 30 + "hidden words"],
)
def test_nothing_said_is_dropped(text: str) -> None:
    assert "hidden words" in render(text)


@pytest.mark.parametrize("unit", ["[", "*a ", "> ", "![", "[a](", "`", "_a*", "|a", "- ", "[a][b", "&", "<"])
def test_cost_is_bounded(unit: str) -> None:
    text = (unit * LONGEST_MARKDOWN)[:LONGEST_MARKDOWN]
    started = time.process_time()
    render(text)
    assert time.process_time() - started < 2


def test_a_megabyte_is_shown_whole() -> None:
    text = "word " * 200_000
    html = render(text)
    assert re.sub(r"<[^>]+>", "", html) == text


def test_direction_tricks_in_what_is_shown_around_answers(
    serve: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    """Questions in lists, names of models and batches, reasons of gold items."""
    trick = "a\u202eb\u2066c"
    rows = [
        {"prompt": trick, "responses": {f"m-1{trick}": "x", "n-2": "y"}},
        {"prompt": "gold", "responses": {"m-1": "x", "n-2": "y"}, "expected": "a", "why": trick},
    ]
    app = serve(write_answers(tmp_path / f"{trick}.jsonl", rows))
    one, admin = Person(app, database), Person(app, database, "admin")
    one.vote()
    pages = [one.get("/progress").text, *(admin.get(p).text for p in ("/results", "/admin", "/admin/items"))]
    for page in pages:
        assert "U+202E" in page
        assert not set(page) & set("\u202e\u2066")
    assert "answers from a file" in pages[2]
