"""Files that are of other models, or not what they claim, and a record that was changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyvalve.errors import ReleaseError, RunError, UsageError
from safetyvalve.report.decision import build_decision, propose, read_kpis, read_material
from safetyvalve.report.finding import finding
from tests.report.decision.material import kpis, plan, run, staged


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("run") / "new")


def test_key_figures_of_another_pair(tmp_path: Path, new: Path) -> None:
    with pytest.raises(UsageError, match=r"kpi\.json is of .*other.*--candidate"):
        read_material([new], kpis=kpis(candidate="other"))
    assert read_material([new], candidate="other", kpis=kpis(candidate="other")).candidate == "other"
    with pytest.raises(UsageError, match=r"compares with .*third.* and the release with .*old"):
        read_material([new], kpis=kpis(baseline="third"), release=staged(tmp_path / "release"))
    dpo = run(tmp_path / "dpo", name="dpo")
    with pytest.raises(UsageError, match=r"compares with .*old.* and the other runs are .*dpo"):
        read_material([new, dpo], kpis=kpis())
    with pytest.raises(UsageError, match=r"the release .* is of .*new.* first run is .*dpo"):
        read_material([dpo, new], release=tmp_path / "release")


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"currency": "JPY"}', "[1]", "\u3042"])
def test_files_that_are_not_what_they_claim(tmp_path: Path, new: Path, content: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"file\.json' is not what it should be .*kpi\.json"):
        read_kpis(file)
    with pytest.raises(UsageError, match=r"roi\.json of `safetyvalve roi"):
        read_material([new], roi=file)
    with pytest.raises(UsageError, match=r"plan\.json of `safetyvalve plan`"):
        read_material([new], plan=file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_kpis(tmp_path / "absent.json")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_kpis(file)


def test_a_release_or_run_that_is_none(tmp_path: Path, new: Path) -> None:
    with pytest.raises(ReleaseError, match="no release"):
        read_material([new], release=tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        read_material([tmp_path / "absent"])


def test_kpi_json_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "kpi.json"
    file.write_text(kpis().model_dump_json(), encoding="utf-8")
    assert read_kpis(file) == kpis()


def test_plan_of_other_data(tmp_path: Path) -> None:
    folder = run(tmp_path / "r")
    other = plan(tmp_path / "plan.json", data={"sha256": "0" * 64})
    found = read_material([folder], plan=other)
    assert [code for code, _ in found.notices] == ["plan_data"]
    assert read_material([folder], plan=plan(tmp_path / "same.json")).notices == ()


def test_evidence_changed_after_the_approval(tmp_path: Path, new: Path) -> None:
    """It is shown, not an error: no gate counts, and the approval stands there as void."""
    folder = staged(tmp_path / "release", approved=True)
    evidence = next((folder / "evidence").iterdir())
    evidence.write_text(evidence.read_text(encoding="utf-8").replace('"value":0', '"value":1'), encoding="utf-8")
    material = read_material([new], release=folder, kpis=kpis())
    assert material.release is None
    assert material.damage is not None
    assert [name for name, _ in material.damage.approvals] == ["b.tanaka"]
    decision = propose(material, finding(material.runs).evidence)
    assert (decision.proposal, decision.ground("gates").code) == ("hold_against", "damaged")
    page = build_decision(material)
    assert "VOID" in page
    assert "was changed after event" in page
    other = staged(tmp_path / "other")
    assert read_material([new], release=other, head="1:" + "0" * 64).damage is not None
    (folder / "log.jsonl").write_text("{}\n", encoding="utf-8")
    assert read_material([new], release=folder).damage.approvals == ()  # type: ignore[union-attr]
