"""The decision report in a real browser: at phone width, with axe, and on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.report.decision import build_decision, read_material
from tests.report.decision.material import OVER, kpis, plan, run, staged
from tests.report.decision.test_page import returned  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, returned: Path) -> dict[str, Path]:  # noqa: F811
    base = tmp_path_factory.mktemp("pages")
    whole = read_material(
        [run(base / "new"), run(base / "old", OVER, "old")], release=staged(base / "release", approved=True),
        kpis=kpis(), roi=returned, plan=plan(base / "plan.json"),
    )  # fmt: skip
    bare = read_material([run(base / "bare", None, "a-rather-long-name-of-a-run-that-was-trained-last-night")])
    for lang in ("en", "ja"):
        for name, material in (("whole", whole), ("bare", bare)):
            (base / f"{name}-{lang}.html").write_text(build_decision(material, lang), encoding="utf-8")
    return {file.stem: file for file in base.glob("*.html")}


@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("name", ["whole-en", "whole-ja", "bare-en", "bare-ja"])
def test_reads_at_every_width(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, bypass_csp=True)
    requests: list[str] = []
    errors: list[str] = []
    context.route("**/*", lambda route: (requests.append(route.request.url), route.continue_()))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text))
    page.goto(pages[name].as_uri(), wait_until="networkidle")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert requests == [pages[name].as_uri()]
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wider = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wider == []
    found = axe.run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    context.close()


@pytest.mark.parametrize(("name", "most"), [("whole-en", 9), ("whole-ja", 9), ("bare-en", 5), ("bare-ja", 5)])
def test_prints_with_the_form_on_one_page(browser: Any, pages: dict[str, Path], name: str, most: int) -> None:
    """Pages are counted with and without the form: it adds exactly one."""
    page = browser.new_page()
    page.goto(pages[name].as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    assert b"/MediaBox [0 0 594.95996 841.91998]" in printed or b"/MediaBox [0 0 595" in printed
    page.evaluate("document.querySelector('#form').remove()")
    without = page.pdf(prefer_css_page_size=True)
    assert _count(printed) == _count(without) + 1
    assert _count(printed) <= most
    page.close()


def _count(printed: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", printed))
