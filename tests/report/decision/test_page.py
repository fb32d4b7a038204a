"""The page: whole, self-contained, in two languages, and deaf to what others wrote."""

from __future__ import annotations

import json
import re
import string
from dataclasses import replace
from pathlib import Path

import pytest

from safetyvalve.cli import main
from safetyvalve.report import read_run
from safetyvalve.report.decision import Material, build_decision, proposal_of, read_material
from safetyvalve.report.decision.page import WORDS
from safetyvalve.report.diagnosis import diagnose
from safetyvalve.stats import append_verdicts
from tests.report.decision.material import OVER, kpis, plan, run, staged
from tests.report.test_diagnosis import scored_run
from tests.report.test_page import Reader
from tests.stats.simulated import verdict


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roi")
    assert main(["roi", "--example", str(folder / "example")]) == 0
    tickets = folder / "example" / "tickets.csv"
    prices = folder / "example" / "assumptions.yaml"
    design = ["--design", "randomised", "--unit", "customer", "--control", "current", "--treatment", "rpo"]
    design += ["--set", "evaluation_hours=40", "--replicates", "1000"]
    assert main(["roi", str(tickets), *design, "--assumptions", str(prices), "--output", str(folder)]) == 0
    return folder / "roi.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, returned: Path) -> Material:
    base = tmp_path_factory.mktemp("whole")
    return read_material(
        [run(base / "new"), run(base / "old", OVER, "old")], release=staged(base / "release", approved=True),
        kpis=kpis(), roi=returned, plan=plan(base / "plan.json"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return read_material([run(tmp_path_factory.mktemp("bare") / "new", None)])


def _places(message: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(message) if name}


def test_both_languages_have_the_same_messages_and_places() -> None:
    assert WORDS["en"].keys() == WORDS["ja"].keys()
    assert [k for k, v in WORDS["en"].items() if _places(v) != _places(WORDS["ja"][k])] == []


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_whole_and_self_contained(whole: Material, bare: Material, lang: str) -> None:
    for material in (whole, bare):
        page = build_decision(material, lang)
        assert page == build_decision(material, lang)
        reader = Reader(page)
        assert reader.stack == []
        sections = [v["id"] for tag, v in reader.tags if tag == "section"]
        assert sections == [
            "decision", "over", "gates", "people", "return", "risks", "next", "approvals", "engineers", "glossary",
            "form",
        ]  # fmt: skip
        ids = [v["id"] for _, v in reader.tags if v.get("id")]
        assert len(ids) == len(set(ids))
        assert {"script", "img", "iframe", "form"}.isdisjoint(tag for tag, _ in reader.tags)
        links = [v.get("href") or v.get("xlink:href") or "" for _, v in reader.tags]
        assert all(link.startswith(("#", "data:,")) for link in links if link)
        assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
        assert re.findall(r"url\((?!#)|@import", page) == []


def test_what_an_executive_reads(whole: Material) -> None:
    text = re.sub(r"\s*\|[\s|]*", "|", re.sub(r"<[^>]+>", "|", build_decision(whole)))
    assert "|Release: go on to pilot (10% of the traffic); a person approved it|" in text
    assert "|People prefer the new model|60.0%|55.0% to 65.0%; 200 prompts judged by people|" in text
    assert "|Gates passed|2 / 2|0 open, 0 failed; stage shadow|" in text
    assert "|Independent score|improved|new|" in text
    assert whole.release is not None
    assert text.count(whole.release.head) == 2  # in the record and on the form
    assert "recorded approval (not a signature) by b.tanaka" in text
    assert "JPY 8,400" in text
    assert "168 judgments, 2.8 hours by one person" in text
    assert "safetyvalve release decide FOLDER" in text
    assert "|Trained by (may not approve)|a.sato|" in text


def test_evidence_stands_beside_every_amount(whole: Material) -> None:
    page = build_decision(whole)
    table = page[page.index("Money over") :]
    rows = re.findall(r"<tr>(.*?)</tr>", table[: table.index("</table>")])
    grades = ("randomised", "difference in differences", "before and after", "assumed", "price paid", "timed")
    assert len(rows) > 3
    assert all(any(grade in row for grade in grades) for row in rows[1:])


def test_what_is_missing_is_named_with_its_command(bare: Material) -> None:
    page = build_decision(bare)
    assert "Hold: not enough evidence" in page
    for command in ("release init", "kpi --verdicts", "annotate serve", "roi TICKETS", "plan --data", "--scorer"):
        assert f"safetyvalve {command}" in page or command in page
    assert page.count('class="state missing"') == 3


def test_japanese_has_no_english_sentence(whole: Material, bare: Material) -> None:
    for material in (whole, bare):
        reader = Reader(build_decision(material, "ja"))
        own = [text for text in reader.own if "safetyvalve" not in text and "b.tanaka" not in text]  # quoted
        words = [re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}){2,}", text) for text in own]
        assert [found for found in words if found] == []
    assert "稟議書" in build_decision(whole, "ja")


def test_hostile_names_are_inert(whole: Material) -> None:
    name = "<script>alert(1)</script>\u202e{{ 7 * 7 }}"
    assert whole.release is not None
    gates = (replace(whole.release.gates[0], metric=name), *whole.release.gates[1:])
    approvals = (replace(whole.release.approvals[0], reason=name, problem="evidence_changed"),)
    hostile = replace(
        whole, candidate=name, trainers=(name,), kpis=kpis(candidate=name, baseline=name),
        release=replace(whole.release, gates=gates, approvals=approvals),
    )  # fmt: skip
    for lang in ("en", "ja"):
        page = build_decision(hostile, lang)
        reader = Reader(page)
        assert reader.stack == []
        assert "script" not in {tag for tag, _ in reader.tags}
        assert "{{ 7 * 7 }}" in page
        assert WORDS[lang]["approval.void"] in page


def test_the_diagnosis_is_shown_and_one_of_other_samples_is_not(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "new")
    found = diagnose(read_run(folder), replicates=50)
    for inputs, shown in ((found["inputs"], True), ("0" * 64, False)):
        (folder / "diagnose.json").write_text(json.dumps(found | {"inputs": inputs}), encoding="utf-8")
        page = build_decision(read_material([folder]))
        assert ('id="figure-observed"' in page) is shown
        assert ("is of other samples, and left out" in page) is not shown


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "new")
    (tmp_path / "kpi.json").write_text(kpis().model_dump_json(), encoding="utf-8")
    assert main(["decision", str(folder), "--kpi", str(tmp_path / "kpi.json"), "--lang", "ja"]) == 0
    written, proposed = capsys.readouterr().out.splitlines()
    assert written == str(folder / "decision.html")
    assert proposed == proposal_of(read_material([folder], kpis=kpis()), "ja") == "保留: 証拠が足りません"
    assert main(["decision", str(folder), "--head", "1:" + "0" * 64]) == 2
    assert "--head is about a release's log" in capsys.readouterr().err
    assert main(["decision", str(folder), "--baseline", "old"]) == 2
    assert "--baseline is about verdicts" in capsys.readouterr().err


def test_command_with_verdicts_and_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People's verdicts lead to a release; the same ones by a judge do not."""
    folder, made = run(tmp_path / "new"), staged(tmp_path / "release")
    answers = ["a", "a", "a", "b"] * 30

    def proposed(**who: str) -> str:
        rows = [
            verdict(prompt_id=f"p{i}", model_a="new", model_b="old", verdict=v, **who) for i, v in enumerate(answers)
        ]
        file = tmp_path / f"{who['rater']}.jsonl"
        append_verdicts(file, rows)
        status = main(["decision", str(folder), "--release", str(made), "--verdicts", str(file)])
        out = capsys.readouterr()
        return out.out.splitlines()[-1] if status == 0 else out.err

    assert proposed(rater="r1", rater_kind="human").startswith("Release: go on to pilot")
    assert not proposed(rater="j", rater_kind="judge").startswith("Release")
