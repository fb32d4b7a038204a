"""The pages in a real browser: a batch by keyboard and by mouse, a lost connection, hostile answers, accessibility."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.annotate.material import write_answers
from tests.annotate.serving import Server
from tests.annotate.test_rendering import HOSTILE

pytestmark = pytest.mark.slow

LONG = "An answer that goes on. " * 2000
ROWS: list[dict[str, Any]] = [
    {
        "prompt": "Sort a list?",
        "responses": {"m-1": "```python\nsorted(x, key=lambda " + "y" * 200 + ")\n```", "m-2": "- a\n- b"},
    },
    {"prompt": "東京から京都へは？", "responses": {"m-1": "**「のぞみ」**で約2時間15分です。", "m-2": "飛行機です。"}},
    {"prompt": "ما فائدة القراءة؟", "responses": {"m-1": "للقراءة فوائد:\n\n- التركيز", "m-2": "مفيدة `python` جدا."}},
    {"prompt": "Long?", "responses": {"m-1": LONG, "m-2": "x" * 3000}},
    {
        "prompt": "Table?",
        "responses": {"m-1": "|a|b|c|d|e|f|\n" + "|-" * 6 + "|\n" + "|wide cell" * 6 + "|", "m-2": "1. one"},
    },
]


def until(page: Any, condition: str) -> None:
    """Wait for it; Playwright's own waiting evaluates text as script, which the page's policy forbids."""
    condition = f"document.body !== null && ({condition})"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if page.evaluate(condition):
                page.wait_for_load_state()
                return
        except Exception as error:  # the page was left while it was asked
            if "context was destroyed" not in str(error) and "navigation" not in str(error):
                raise
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


class Desk:
    """A server on a file of answers, and pages that are signed in."""

    def __init__(self, folder: Path, browser: Any, rows: list[dict[str, Any]], *options: object) -> None:
        self.browser, self.db = browser, folder / "annotate.db"
        file = write_answers(folder / "answers.jsonl", rows)
        fixed = ("--repeats", 0, "--gold-every", 0)
        self.server = Server(file, "--db", self.db, *fixed, *options, invites=4)
        self.contexts: list[Any] = []
        self.errors: list[str] = []

    def person(self, *, practised: bool = True, role: str = "annotator", **options: Any) -> Any:
        """A signed-in page; what it logs and asks for from elsewhere is kept."""
        # Smooth scrolling would move what is about to be clicked.
        usual = {"locale": "en", "viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        context = self.browser.new_context(**usual | options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        for kind in ("pageerror", "dialog"):
            page.on(kind, lambda event, kind=kind: self.errors.append(f"{kind}: {event}"))
        page.on("request", lambda r: None if r.url.startswith(self.server.url) else self.errors.append(r.url))
        page.goto(self.server.links[role].pop())
        page.click("main button")
        if role == "annotator":
            page.check("[name=agreed]")
            page.click("main button.primary")
            page.wait_for_url("**/judge")
            if practised:
                for _ in range(3):
                    self.press(page, "3", "Enter")
                    page.wait_for_url("**/feedback")
                    self.press(page, "Enter")  # the way on has the focus
                    page.wait_for_url("**/judge")
        return page

    @staticmethod
    def press(page: Any, *keys: str) -> None:
        page.wait_for_load_state()
        for key in keys:
            page.keyboard.press(key)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.db}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()

    def votes(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT choice, vote.swapped, strength, tags, active_ms, revision FROM vote JOIN assignment ON "
            "assignment.id = assignment_id WHERE assignment.kind != 'practice' ORDER BY vote.created_at"
        )

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.server.stop()


@pytest.fixture
def desk(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    opened: list[Desk] = []

    def make(rows: list[dict[str, Any]] = ROWS, *options: object) -> Desk:
        opened.append(Desk(tmp_path, browser, rows, *options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_a_batch_by_keyboard(desk: Callable[..., Desk]) -> None:
    """Choice, strength, tags, undo, correction, skip, help, pages: without touching the mouse once."""
    here = desk()
    page = here.person()
    here.press(page, "1", "w", "5", "8", "Enter")
    page.wait_for_url("**/judge?saved=*")
    here.press(page, "u")
    page.wait_for_url(re.compile("/judge/[0-9a-f]{32}$"))
    assert page.is_checked("[name=choice][value='1']")
    here.press(page, "2", "e", "Enter")
    page.wait_for_url("**/judge?saved=*")
    here.press(page, "?")
    assert page.get_attribute("#keys", "open") is not None
    page.evaluate("document.activeElement.blur()")
    here.press(page, "g")
    page.wait_for_url("**/guideline")
    page.keyboard.press("Tab")
    page.goto(here.server.url + "/judge")
    for n in range(2, 5):
        here.press(page, "4", "Enter")
        until(page, f"document.body.innerText.includes('{n} judged')")
    here.press(page, "s")
    page.wait_for_selector("text=Nothing to judge")
    stored = here.votes()
    assert [(v[2], json.loads(v[3]), v[5]) for v in stored[:2]] == [
        (2, ["correct", "safe"], 0),
        (3, ["correct", "safe"], 1),
    ]
    assert [v[0] for v in stored[2:]] == ["both_bad"] * 3 + ["skip"]
    assert all(v[4] is None or 0 < v[4] < 60_000 for v in stored)
    assert sum(v[4] is not None for v in stored) >= 4
    assert here.errors == []


def test_a_batch_by_mouse_in_japanese_on_a_phone(desk: Callable[..., Desk]) -> None:
    here = desk()
    page = here.person(locale="ja-JP", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert page.get_attribute("html", "lang") == "ja"
    for place in range(5):
        page.wait_for_load_state()
        width = page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= 360, f"item {place} is {width} wide"
        page.tap("label:has([name=choice][value='2'])")
        page.tap("label:has([name=strength][value='1'])")
        page.tap("button.primary")
        until(page, f"document.body.innerText.includes('評価済み {place + 1}件') || !document.querySelector('.ballot')")
    page.wait_for_selector("text=いま評価する項目はありません")
    assert [v[2] for v in here.votes()] == [1] * 5
    page.click("text=English")
    assert page.get_attribute("html", "lang") == "en"
    assert here.errors == []


def test_correcting_an_answer(desk: Callable[..., Desk]) -> None:
    here = desk([ROWS[1]])
    page = here.person()
    page.wait_for_load_state()
    first = "のぞみ" in page.inner_text(".answer:nth-child(1)")
    here.press(page, "1" if first else "2", "c")
    page.wait_for_selector("textarea[name=text]")
    page.wait_for_load_state()
    assert page.evaluate("document.activeElement.name") == "text"
    page.keyboard.press("Control+End")
    page.keyboard.type("予約しましょう。", delay=20)
    page.wait_for_timeout(1200)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".diff ins")
    assert page.inner_text(".diff ins") == "予約しましょう。"
    ((text, distance, active),) = here.rows("SELECT text, distance, active_ms FROM correction")
    assert (text, distance) == ("**「のぞみ」**で約2時間15分です。予約しましょう。", 8)
    assert 500 < active < 60_000
    assert here.errors == []


def test_the_connection_is_lost_in_mid_vote(desk: Callable[..., Desk]) -> None:
    """Nothing is lost, nothing is doubled, and the page goes on by itself when the server is back."""
    here = desk()
    page = here.person()
    before = page.get_attribute(".ballot", "action")
    here.press(page, "1", "q")
    here.server.kill()
    here.press(page, "Enter")
    page.wait_for_selector("text=No connection")
    assert page.is_checked("[name=choice][value='1']")
    here.server.start()
    page.wait_for_url("**/judge?saved=*")
    assert page.get_attribute(".ballot", "action") != before
    assert [(v[2], v[5]) for v in here.votes()] == [(1, 0)]
    # The answer that is lost is the server's: the vote was stored, and the page does not know.
    lost = iter([True])

    def lose(route: Any) -> None:
        if next(lost, False):
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/votes", lose)
    here.press(page, "2", "Enter")
    page.wait_for_selector("text=No connection")
    until(page, "document.body.innerText.includes('2 judged')")
    assert len(here.votes()) == 2
    # A page that is closed before the connection is back sends its vote when the next one opens.
    page.route("**/api/votes", lambda route: route.abort())
    here.press(page, "3", "Enter")
    page.wait_for_selector("text=No connection")
    page.unroute("**/api/votes")
    other = page.context.new_page()
    page.close()
    other.goto(here.server.url + "/progress")
    other.wait_for_url("**/judge?saved=*")
    assert [v[0] for v in here.votes()].count("tie") == 1
    assert len(here.votes()) == 3


def test_a_reload_keeps_what_was_entered(desk: Callable[..., Desk]) -> None:
    here = desk()
    page = here.person()
    here.press(page, "1", "e", "6")
    page.reload()
    assert page.is_checked("[name=choice][value='1']")
    assert page.is_checked("[name=strength][value='3']")
    assert page.is_checked("[name=tags][value='helpful']")


def test_without_scripts(desk: Callable[..., Desk]) -> None:
    here = desk()
    page = here.person(practised=False, java_script_enabled=False)
    for _ in range(3):
        page.click("label:has([value=tie])")
        page.click("button.primary")
        page.click("main a.primary")
    for _ in range(5):
        page.click("label:has([name=choice][value='1'])")
        page.click("button.primary")
    assert "Nothing to judge" in page.inner_text("h1")
    assert [v[4] for v in here.votes()] == [None] * 5


def test_hostile_answers_are_inert(desk: Callable[..., Desk]) -> None:
    """No script, no dialog, no request to anywhere, no way out of the box; a megabyte is shown whole."""
    mega = "<script>alert(1)</script> " + "word " * 200_000
    rows = [{"prompt": h, "responses": {"m-1": h, "m-2": f"> {h}\n\n{h}"}} for h in HOSTILE]
    rows.append({"prompt": "Mega", "responses": {"m-1": mega, "m-2": "a\u202eb" * 1000}})
    here = desk(rows)
    page = here.person(practised=False)
    for _ in range(3):
        here.press(page, "3", "Enter")
        page.wait_for_url("**/feedback")
        page.click("main a.primary")
    megas = 0
    for place in range(len(rows)):
        page.wait_for_load_state()
        foreign = page.evaluate(
            "[...document.querySelectorAll('.said *')].filter(e => ['SCRIPT','IMG','IFRAME','SVG','A','FORM','INPUT',"
            "'STYLE','OBJECT','EMBED','BASE','META','LINK','MATH'].includes(e.tagName.toUpperCase())"
            " || [...e.attributes].some(a => a.name.startsWith('on') || a.name === 'style')).map(e => e.outerHTML)"
        )
        assert foreign == []
        assert page.evaluate("document.querySelectorAll('.answer').length") == 2
        assert page.evaluate("document.querySelector('.ballot').checkVisibility()")
        assert page.evaluate("/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)") is False
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 1280
        megas += (
            page.evaluate("Math.max(...[...document.querySelectorAll('.answer')].map(a => a.textContent.length))")
            > 10**6
        )
        here.press(page, "3", "Enter")
        until(page, f"document.body.innerText.includes('{place + 1} judged') || !document.querySelector('.ballot')")
    assert megas == 1
    page.wait_for_selector("text=Nothing to judge")
    assert here.errors == []


def test_the_policy_stops_what_would_slip_through(desk: Callable[..., Desk]) -> None:
    """Even if HTML came through: the browser refuses inline scripts, foreign images, frames and base addresses."""
    here = desk()
    page = here.person()
    blocked = page.evaluate(
        """async () => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', e => seen.push(e.effectiveDirective));
            const add = (tag, set) => document.body.append(Object.assign(document.createElement(tag), set));
            add('img', {src: 'https://evil.example/pixel.png'});
            add('img', {src: 'data:image/gif;base64,R0lGODlhAQABAAAAACw='});
            add('iframe', {src: 'https://evil.example/'});
            add('base', {href: 'https://evil.example/'});
            try { add('script', {text: 'window.owned = 1'}); } catch { seen.push('script'); }
            const div = document.createElement('div'); document.body.append(div);
            try { div.setAttribute('onclick', 'window.owned = 2'); div.click(); } catch { seen.push('handler'); }
            try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); } catch { seen.push('trusted-types'); }
            await new Promise(done => setTimeout(done, 500));
            return [seen, window.owned ?? null];
        }"""
    )
    assert blocked[1] is None
    assert {"img-src", "frame-src", "base-uri", "script", "handler", "trusted-types"} <= set(blocked[0])
    assert blocked[0].count("img-src") == 2


@pytest.mark.parametrize(("lang", "width"), [("en", 1280), ("ja", 360)])
def test_accessibility(desk: Callable[..., Desk], lang: str, width: int) -> None:
    """axe finds nothing serious on any page, and no page scrolls sideways."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    here = desk()
    found: dict[str, list[str]] = {}

    def check(page: Any, name: str) -> None:
        page.wait_for_load_state()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
        response = axe.run(page).response
        found[name] = [
            f"{v['id']}: {v['nodes'][0]['html'][:120]}"
            for v in response["violations"]
            if v["impact"] in ("serious", "critical")
        ]

    options = {"locale": lang, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    page = here.person(practised=False, **options)
    check(page, "judge practice")
    here.press(page, "1", "Enter")
    page.wait_for_url("**/feedback")
    check(page, "feedback")
    for path in ("guideline", "progress", "nothing"):
        page.goto(f"{here.server.url}/{path}")
        check(page, path)
    page.goto(f"{here.server.url}/judge")
    for _ in range(2):
        here.press(page, "3", "Enter")
        page.wait_for_url("**/feedback")
        page.click("main a.primary")
    page.wait_for_load_state()
    here.press(page, "1")
    page.click(".keys summary")
    page.click(".report summary")
    check(page, "judge")
    page.evaluate("document.activeElement.blur()")
    here.press(page, "c")
    page.wait_for_selector("textarea[name=text]")
    check(page, "correct")
    page.fill("textarea[name=text]", "other")
    page.click("button.primary")
    page.wait_for_selector(".diff")
    check(page, "corrected")
    admin = here.person(role="admin", **options)
    for path in ("admin", "admin/people", "admin/items", "admin/guideline", "results"):
        admin.goto(f"{here.server.url}/{path}")
        for summary in admin.query_selector_all("main summary"):
            summary.click()
        check(admin, path)
    outside = here.browser.new_context(**options)
    here.contexts.append(outside)
    stranger = outside.new_page()
    for name, url in (("invite", here.server.links["annotator"][0]), ("welcome", here.server.url)):
        stranger.goto(url)
        check(stranger, name)
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert len(found) == 15
