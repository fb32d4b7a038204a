"""The page in a real browser without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetyvalve.report import write_report
from tests.report.runs import make_run
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, checked: Path) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("pages")
    over = make_run(base / "o", "dpo", [0.5, 1.0, 1.2, 0.9, 0.6], responses=HOSTILE)
    good = make_run(base / "g", "rpo-with-a-rather-long-name-of-a-run", [0.5, 0.8, 1.0, 1.1, 1.2])
    found = {lang: write_report([over, good], base / f"{lang}.html", lang) for lang in ("en", "ja")}
    return found | {"data": write_report([checked], base / "data.html", "ja")}


@pytest.mark.parametrize("width", [1200, 375, 360])
@pytest.mark.parametrize("lang", ["en", "ja", "data"])
def test_no_request_no_error_no_sideways_scroll(browser: Any, pages: dict[str, Path], lang: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    requests: list[str] = []
    errors: list[str] = []
    context.route("**/*", lambda route: (requests.append(route.request.url), route.continue_()))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.goto(pages[lang].as_uri(), wait_until="networkidle")
    assert requests == [pages[lang].as_uri()]
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wider = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wider == []
    context.close()


def test_figures_are_seen_and_labels_stay_inside(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    for lang in ("en", "ja"):
        page.goto(pages[lang].as_uri())
        boxes = page.evaluate("[...document.querySelectorAll('svg.plot')].map(e => e.getBoundingClientRect().toJSON())")
        assert len(boxes) == 15
        assert all(box["width"] > 200 and box["height"] > 150 for box in boxes)
        outside = page.evaluate(
            "[...document.querySelectorAll('svg.plot text')].filter(t => { const a = t.getBoundingClientRect(),"
            " b = t.closest('svg').getBoundingClientRect(); return a.right > b.right + 1 || a.left < b.left - 1 })"
            ".map(t => t.textContent)"
        )
        assert outside == []
    page.close()


def test_it_prints(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(pages["en"].as_uri())
    printed = page.pdf(path=str(tmp_path / "report.pdf"), prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in printed or b"/MediaBox [0 0 595" in printed
    page.close()
