"""What is proposed, from what; never from the reward or a judge alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.release.kpi_record import Kpis
from safetyvalve.report.decision import Decision, Material, propose, read_material
from safetyvalve.report.finding import finding
from tests.release.staged.material import good, rows
from tests.report.decision.material import OVER, decided, kpis, run, staged


def _decide(material: Material) -> Decision:
    return propose(material, finding(material.runs).evidence)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Material:
    base = tmp_path_factory.mktemp("decision")
    return read_material([run(base / "run")], release=staged(base / "release"), kpis=kpis())


def test_all_grounds_met(whole: Material) -> None:
    found = _decide(whole)
    assert found.proposal == "release"
    assert [(g.key, g.state, g.code) for g in found.grounds] == [
        ("gates", "met", "gates_await_approval"),
        ("overoptimization", "met", "improved"),
        ("people", "met", "people_for"),
    ]


@pytest.mark.parametrize(
    ("changes", "proposal", "code"),
    [
        ({"release": None}, "hold_evidence", "no_release"),
        ({"kpis": None}, "hold_evidence", "no_kpis"),
        ({"kpis": kpis(value=None)}, "hold_evidence", "no_people"),
        ({"kpis": kpis(0.3, 0.4, 0.49)}, "hold_against", "people_against"),
        ({"kpis": kpis(0.45, 0.5, 0.55)}, "release", "people_level"),
        ({"release": None, "kpis": kpis(0.45, 0.5, 0.55)}, "hold_evidence", "people_level"),
    ],
)
def test_each_ground_is_needed(whole: Material, changes: dict[str, Any], proposal: str, code: str) -> None:
    found = _decide(replace(whole, **changes))
    assert found.proposal == proposal
    assert code in [g.code for g in found.grounds]


def test_verdicts_of_a_judge_only_are_no_ground(whole: Material) -> None:
    """A win rate without a person behind it is nobody's, however high it is."""
    figures: Kpis = kpis(0.95, 0.97, 0.99)
    alone = figures.model_copy(
        update={"figures": [figures.figures[0].model_copy(update={"n": 0, "judge": "j"}), *figures.figures[1:]]}
    )
    assert _decide(replace(whole, kpis=alone)).proposal == "hold_evidence"


def test_a_rising_reward_alone_is_no_ground(tmp_path: Path, whole: Material) -> None:
    unscored = read_material([run(tmp_path / "r", None, gains=[0, 5, 10, 20, 40])])
    found = _decide(unscored)
    assert found.proposal == "hold_evidence"
    assert {g.state for g in found.grounds} == {"missing"}
    assert _decide(replace(whole, runs=unscored.runs)).ground("overoptimization").code == "unscored"


def test_overoptimization_speaks_against(tmp_path: Path, whole: Material) -> None:
    over = read_material([run(tmp_path / "r", OVER)]).runs
    assert _decide(replace(whole, runs=over)).proposal == "hold_against"
    chosen = (replace(over[0], selection={"step": 20}),)
    found = _decide(replace(whole, runs=chosen))
    assert (found.proposal, found.ground("overoptimization").code) == ("release", "over_selected")
    last = (replace(over[0], selection={"step": 40}),)
    assert _decide(replace(whole, runs=last)).proposal == "hold_against"


def test_of_the_release(tmp_path: Path, whole: Material) -> None:
    def with_release(name: str, given: list[dict[str, Any]], **options: Any) -> Decision:
        made = staged(tmp_path / name, rows=given, **options)
        return _decide(read_material([run(tmp_path / f"{name}-run")], release=made, kpis=kpis()))

    judged = with_release("judged", good(source="judge"))
    assert (judged.proposal, judged.ground("gates").state) == ("hold_evidence", "open")
    lost = [*rows("human_win_rate", [0] * 400, source="human", prefix="p"), *good()[400:]]
    assert with_release("lost", lost).proposal == "hold_against"
    harm = [*good()[:400], *rows("harm", [1] * 400), *rows("harm", [0] * 400, variant="old")]
    assert with_release("harm", harm).proposal == "rollback"


def test_approved(tmp_path: Path) -> None:
    made = staged(tmp_path / "release", approved=True)
    found = _decide(read_material([run(tmp_path / "run")], release=made, kpis=kpis()))
    assert (found.proposal, found.ground("gates").code) == ("release", "gates_promote")
    assert decided(made) == "promote"
    after = _decide(read_material([tmp_path / "run"], release=made, kpis=kpis()))
    assert (after.proposal, after.ground("gates").code) == ("hold_evidence", "gates_pause")
