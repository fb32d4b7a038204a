"""Prompts are shown by rule."""

from __future__ import annotations

from pathlib import Path

from safetyvalve.report import RunRecord, read_run
from safetyvalve.report.record import Answer
from safetyvalve.report.sampled import chosen_prompts, exhibits
from tests.report.runs import make_run


def _answer(prompt: str, score: float | None, response: str = "r") -> Answer:
    return Answer(prompt, (("user", "q"),), response, 3.0, 1.0, 0.0, 0.0, score)


def _run(name: str, first: dict[str, float | None], last: dict[str, float | None], response: str = "r") -> RunRecord:
    samples = {
        0: [_answer(p, s) for p, s in first.items()],
        9: [_answer(p, s, response) for p, s in last.items()],
    }
    return RunRecord(name, name, {}, [], [], samples)


def test_largest_rise_first_largest_fall_last_and_even_between() -> None:
    changes = {f"p{i:02d}": float(i) for i in range(21)}
    record = _run("a", dict.fromkeys(changes, 0.0), changes)  # type: ignore[arg-type]
    chosen = chosen_prompts([record], limit=5)
    assert chosen == [("p20", 20.0), ("p15", 15.0), ("p10", 10.0), ("p05", 5.0), ("p00", 0.0)]


def test_change_is_the_mean_over_runs_and_over_answers() -> None:
    one = _run("a", {"p": 0.0, "q": 0.0}, {"p": 1.0, "q": 0.5})
    two = _run("b", {"p": 0.0, "q": 0.0}, {"p": -3.0, "q": 0.5})
    two.samples[9].append(_answer("p", -1.0))  # type: ignore[attr-defined]
    assert chosen_prompts([one, two]) == [("q", 0.5), ("p", -0.5)]


def test_without_scores_the_order_is_that_of_identifiers() -> None:
    record = _run("a", {}, dict.fromkeys(["c", "a", "b"]))
    assert chosen_prompts([record]) == [("a", None), ("b", None), ("c", None)]
    assert [p for p, _ in chosen_prompts([record], limit=2)] == ["a", "c"]


def test_equal_first_answers_share_a_card() -> None:
    same = exhibits([_run("a", {"p": 0.0}, {"p": 1.0}), _run("b", {"p": 0.0}, {"p": 2.0})])[0].cards
    assert [(c.run, c.step, c.is_first) for c in same] == [("", 0, True), ("a", 9, False), ("b", 9, False)]
    other = _run("b", {"p": 0.0}, {"p": 2.0})
    other.samples[0][0] = _answer("p", 0.0, "another")  # type: ignore[index]
    cards = exhibits([_run("a", {"p": 0.0}, {"p": 1.0}), other])[0].cards
    assert [c.run for c in cards if c.is_first] == ["a", "b"]


def test_a_prompt_that_a_run_did_not_answer() -> None:
    cards = exhibits([_run("a", {"p": 0.0}, {"p": 1.0}), _run("b", {"q": 0.0}, {"q": 1.0})])[0].cards
    assert {c.run: c.answer is None for c in cards if not c.is_first} == {"a": False, "b": True}


def test_at_most_twelve(tmp_path: Path) -> None:
    assert len(exhibits([read_run(make_run(tmp_path / "r", "r", [0.5] * 5))])) == 12
