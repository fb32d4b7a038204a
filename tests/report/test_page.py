"""The page: whole, self-contained, honest about what it shows, and deaf to what models wrote."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from safetyvalve.errors import RunError
from safetyvalve.report import RunRecord, build_report, finding, read_run, write_report
from safetyvalve.report.markup import visible
from tests.report.runs import make_run

HOSTILE = {
    "probe000": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "probe001": "</div></article></main><h1>Owned</h1>",
    "probe002": "a\u202egnp.exe\u2066 b\x00c\x1b[31m",
    "probe003": "{{ 7 * 7 }}{% raw %}",
    "probe004": "\ud800 half a pair",
    "probe005": "   \n ",
    "probe006": "word " * 2000,
}


class Reader(HTMLParser):
    """Tags, attributes and text, with the text of the answers and of recorded values told apart."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[tuple[str, bool]] = []
        self.own: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        classes = (values.get("class") or "").split()
        foreign = bool({"said", "recorded"} & set(classes)) or tag in ("style", "code")
        if tag not in self.VOID:
            self.stack.append((tag, foreign or (bool(self.stack) and self.stack[-1][1])))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            opened, _ = self.stack.pop()
            assert opened == tag, f"<{opened}> closed by </{tag}>"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip() and not (self.stack and self.stack[-1][1]):
            self.own.append(data.strip())


@pytest.fixture(scope="module")
def page(runs: dict[str, RunRecord]) -> str:
    return build_report([runs["over"], runs["good"]])


def test_the_finding_stands_first(page: str, runs: dict[str, RunRecord]) -> None:
    first, second = finding([runs["over"], runs["good"]]).sentences
    own = Reader(page).own
    assert first in own
    assert own.index(second) == own.index(first) + 1
    order = ["finding", "figures", "values", "answers", "data", "settings", "methods"]
    found = [values["id"] for tag, values in Reader(page).tags if tag == "section"]
    assert found == order


def test_every_tag_is_closed_and_ids_are_distinct(page: str) -> None:
    reader = Reader(page)
    assert reader.stack == []
    ids = [values["id"] for _, values in reader.tags if values.get("id")]
    assert len(ids) == len(set(ids))
    targets = {href[1:] for _, v in reader.tags if (href := v.get("href") or v.get("xlink:href") or "").startswith("#")}
    assert targets
    assert targets <= set(ids)


def test_nothing_outside_is_named(page: str) -> None:
    for tag, values in Reader(page).tags:
        assert tag not in {"script", "img", "iframe", "object", "embed", "video", "audio", "base", "form"}
        for name, value in values.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                assert (value or "").startswith(("#", "data:,")), (tag, name, value)
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_equal_runs_give_equal_bytes_of_a_moderate_number(runs: dict[str, RunRecord], page: str) -> None:
    assert build_report([runs["over"], runs["good"]]) == page
    assert len(page.encode()) < 1_500_000


def test_language_is_declared(runs: dict[str, RunRecord]) -> None:
    for lang in ("en", "ja"):
        tags = Reader(build_report([runs["good"]], lang)).tags
        assert next(values["lang"] for tag, values in tags if tag == "html") == lang


@pytest.mark.parametrize(
    "names", [["over"], ["over", "good"], ["over", "bad", "good"], ["unscored"], ["unscored", "flat"]]
)
def test_no_english_sentence_is_left_in_the_japanese_page(runs: dict[str, RunRecord], names: list[str]) -> None:
    reader = Reader(build_report([runs[n] for n in names], "ja"))
    words = [re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}){2,}", text) for text in reader.own]
    assert [found for found in words if found] == []
    labels = [values.get("aria-label") or "" for _, values in reader.tags]
    assert [text for text in labels if text and not re.search("[\u3040-\u9fff]", text)] == []


def test_hostile_answers_are_inert(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "r", "<b>x</b> $\\frac{$", [0.5, 0.6], gains=[0, 1], steps=[0, 40], prompts=7, responses=HOSTILE,
        config={"note": "<script>alert(3)</script>", "mixed\u202e": ["</td>", None]},
    )  # fmt: skip
    data = json.loads((folder / "data_report.json").read_text())
    data["file"] = '"><script>alert(4)</script>'
    (folder / "data_report.json").write_text(json.dumps(data))
    page = build_report([read_run(folder)])
    reader = Reader(page)
    assert reader.stack == []
    assert {"script", "img"}.isdisjoint(tag for tag, _ in reader.tags)
    assert sum(tag == "h1" for tag, _ in reader.tags) == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>x" not in page
    assert "{{ 7 * 7 }}" in page
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", page)
    assert '<span class="code">U+202E</span>gnp.exe' in page
    assert '<span class="code">U+D800</span> half a pair' in page
    assert "(empty answer)" in page
    assert "6000 more characters are in the run folder" in page
    page.encode("utf-8")


def test_answers_are_isolated_from_the_page(page: str) -> None:
    said = [values for _, values in Reader(page).tags if values.get("class") == "said"]
    assert said
    assert all(values.get("dir") == "auto" and values.get("lang") == "" for values in said)
    assert page.count('dir="auto"><bdi>') == len(said)


def test_what_reads_well_stays() -> None:
    assert visible("fa\u200crsi \U0001f468\u200d\U0001f469 日本\ttab\nline\r\nend") == (
        "fa\u200crsi \U0001f468\u200d\U0001f469 日本\ttab\nline\nend"
    )


def test_figures_say_what_is_missing(runs: dict[str, RunRecord]) -> None:
    page = build_report([runs["unscored"]])
    assert "There is no independent score in these runs, so nothing can be shown here" in page
    assert "no score" in page
    mixed = build_report([runs["unscored"], runs["good"]])
    assert "Not recorded: unscored." in mixed


def test_values_of_the_table(runs: dict[str, RunRecord], page: str) -> None:
    text = re.sub(r"<[^>]+>", "|", page)
    assert re.search(r"Verdict\|+overoptimized\|+improved", text)
    assert re.search(r"Chosen: change of log-probability, nats per response\|+−12.0\|+−12.0", text)
    assert re.search(r"Highest resident memory, GiB\|+7.00\|+7.00", text)
    assert re.search(r"Share of answers that end by themselves\|+0\.67 \(0\.46 to 0\.87\)", text)


def test_settings_data_and_environment(page: str) -> None:
    text = re.sub(r"<[^>]+>", "|", page)
    for expected in ("effective", "Parity margin, nats", "loss_weights=[1.0,0.5725]", "equal to the padded forward"):
        assert expected.lower() in text.lower()
    assert re.search(r"no rejected response\|+2\|+17 and 18", text)
    assert re.search(r"Comparisons won by the longer response\|+61.8%", text)
    assert re.search(r"packages\.torch\|+2\.11\.0\|+2\.11\.0", text)
    assert re.search(r"≠\| \|*name\|", text)


def test_differences_beyond_the_objective_are_named(tmp_path: Path, runs: dict[str, RunRecord]) -> None:
    other = read_run(make_run(tmp_path / "o", "other", [0.5] * 5, config={"seed": 1, "objective": "rpo"}))
    assert "differ in more than their objective: seed." in build_report([runs["good"], other])
    assert "differ in more than" not in build_report([runs["good"], runs["alike"]])


def test_methods_name_the_four_bit_origin_only_where_it_applies(tmp_path: Path, page: str) -> None:
    other = read_run(make_run(tmp_path / "o", "other", [0.5] * 5, config={"model": "a/model"}))
    assert "Q4_1" in page
    assert "Q4_1" not in build_report([other])
    assert "not a content filter" in page
    assert "one seed" in page


def test_write_replaces_whole_pages_only(tmp_path: Path, folders: dict[str, Path]) -> None:
    target = tmp_path / "deep" / "report.html"
    assert write_report([folders["good"]], target) == target
    before = target.read_text(encoding="utf-8")
    with pytest.raises(RunError):
        write_report([folders["good"], tmp_path / "absent"], target)
    assert target.read_text(encoding="utf-8") == before
    write_report([folders["good"]], target, "ja")
    assert '<html lang="ja">' in target.read_text(encoding="utf-8")
    assert [file.name for file in target.parent.iterdir()] == ["report.html"]


def test_output_that_is_a_folder(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(RunError, match="is a folder"):
        write_report([folders["good"]], tmp_path)


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", ["Truncated, kept in part|2", "in different rows|1|1 and 10", "Looks like an e-mail address|1|11",
                "prompts to be served are not covered", "50.0% of the tokens", "Cut at the length limit"]),
        ("ja", ["一部だけ使用した行|2", "（異なる行の間）|1|1、10", "メールアドレスらしいもの|1|11",
                "は覆われていません", "トークンの50.0%を知りません", "長さの上限で切ったため"]),
    ],
)  # fmt: skip
def test_data_section(checked: Path, lang: str, expected: list[str]) -> None:
    page = build_report([read_run(checked)], lang)
    reader = Reader(page)
    assert reader.stack == []
    assert {"script", "b"} & {tag for tag, _ in reader.tags} <= {"b"}
    text = re.sub(r"\|+", "|", re.sub(r"<[^>]+>|\s*\n\s*", "|", page))
    assert [e for e in expected if e not in text] == []
    assert "example.com" not in page
    if lang == "ja":
        words = [re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}){2,}", own) for own in reader.own]
        assert [found for found in words if found] == []


def test_a_data_report_of_another_version_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", "r", [0.5, 0.6], gains=[0, 1], steps=[0, 40])
    (folder / "data_report.json").write_text(json.dumps({"rows": 7, "kept": 5, "quality": {"strange": 1}}))
    text = re.sub(r"<[^>]+>", "|", build_report([read_run(folder)]))
    assert re.search(r"Rows read\|+7", text)
