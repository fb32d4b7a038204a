"""The return in words: every message in both languages, and nothing that a page or a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import string
from datetime import timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from safetyvalve.errors import UsageError
from safetyvalve.release.kpi_text import MESSAGES as KPI_MESSAGES
from safetyvalve.release.labour import Judging
from safetyvalve.release.roi_record import Roi
from safetyvalve.release.roi_sheet import roi_sheet
from safetyvalve.release.roi_study import Study
from safetyvalve.release.roi_text import MESSAGES
from safetyvalve.release.sheet import Sheet, Table, as_csv, as_html, as_markdown
from safetyvalve.stats import Interval
from tests.release.test_roi import ALL, WINS, did, roi, rows
from tests.release.tickets import START


def _places(message: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(message) if name}


@pytest.mark.parametrize("messages", [MESSAGES, KPI_MESSAGES], ids=["roi", "kpi"])
def test_every_language_has_the_same_messages_and_places(messages: dict[str, dict[str, str]]) -> None:
    assert messages["en"].keys() == messages["ja"].keys()
    for key, message in messages["en"].items():
        assert _places(message) == _places(messages["ja"][key]), key


def everything() -> list[Roi]:
    """Returns that between them say nearly every message."""
    judging = Judging(25.5, 3, 100, 10, 4, 200, 10, Interval(4, 3, 5, 0.5, 3))
    untimed = [t._replace(edit_min=None, csat=None if i % 3 else 4.0) for i, t in enumerate(rows())]
    drawn = WINS._replace(judge="j", random_sample=False)
    return [
        roi(options={"quality": WINS}, **ALL),
        roi(redeployed=None, harm_rate=0.001, data=[t._replace(harm=None, complaint=None) for t in rows()]),
        roi(data=untimed, evaluation_hours=None, options={"judging": judging, "quality": drawn}),
        roi(Study("before-after", "agent", launch=START + timedelta(days=5)), rows(12), horizon_months=36),
        roi(Study("did", "customer", "old", "new", START + timedelta(days=60)), did(-0.05)),
        roi(Study("did", "customer", "old", "new", START + timedelta(days=60)), did(0.0)),
    ]


def test_every_caution_and_reason_can_be_said() -> None:
    found = everything()
    for result in found:
        for lang in ("en", "ja"):
            page = roi_sheet(result, lang)
            assert page.sentences and all(len(row) == len(t.columns) for t in page.tables for row in t.rows)
    said = {c.key for r in found for c in r.cautions}
    known = {k.removeprefix("caution.") for k in MESSAGES["en"] if k.startswith("caution.")}
    assert known - said <= {"did_placebo_none"}


def test_what_an_executive_reads_first() -> None:
    sentences = roi_sheet(roi(options={"quality": WINS}, **ALL), "en").sentences
    assert sentences[0].startswith("Short term net, 50% of freed time redeployed: JPY ")
    assert sentences[1].startswith("Net with the long term") and sentences[1].endswith("Evidence: randomised.")
    assert (
        "People prefer new to old in 60.0% of comparisons (55.0% to 65.0%; 200 prompts, people alone)" in sentences[2]
    )
    japanese = roi_sheet(roi(**ALL), "ja").sentences[0]
    assert "万円" in japanese and "根拠: 無作為割付" in japanese
    with pytest.raises(UsageError, match="accepted: en, ja"):
        roi_sheet(roi(**ALL), "fr")


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_fragment_is_plain_and_its_charts_are_whole() -> None:
    page = as_html(roi_sheet(roi(options={"quality": WINS}, **ALL), "en"), "roi")
    found = _Elements()
    found.feed(page)
    assert {"section", "table", "svg", "rect"} <= found.names
    assert not found.names & {"script", "style", "link", "img", "iframe", "a"}
    assert not found.attributes & {"href", "src", "style", "onclick"}
    ElementTree.fromstring(str(page))  # well formed, so that it can be put into any page


HOSTILE = Sheet(
    "t", ["<script>x</script>"], [Table("a|b", ["c", "d"], [["=1+1", "<b>"], ["＝HYPERLINK(1)", "-2"]])], "n", ["|"]
)


def test_hostile_names_are_harmless() -> None:
    assert "<script>" not in as_html(HOSTILE, "x") and "&lt;b&gt;" in as_html(HOSTILE, "x")
    assert "| =1+1 | &lt;b> |" in as_markdown(HOSTILE) and "a\\|b" in as_markdown(HOSTILE)
    data = as_csv(HOSTILE)
    assert data.startswith(b"\xef\xbb\xbf")
    cells = [c for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) for c in row]
    assert "'=1+1" in cells and "'＝HYPERLINK(1)" in cells and "'-2" in cells


def test_negative_amounts_stay_numbers_for_people() -> None:
    """The true minus sign is no formula, so amounts in the CSV carry no apostrophe."""
    text = as_csv(roi_sheet(roi(**ALL), "en")).decode("utf-8-sig")
    assert "−JPY 1,000,000" in text and "'−JPY" not in text
