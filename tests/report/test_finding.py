"""The finding says what the numbers show, whoever wins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safetyvalve.errors import RunError, UsageError
from safetyvalve.report import RunRecord, finding, read_run
from safetyvalve.report.evidence import compare_runs, evidence_of
from tests.report.runs import make_run

Runs = dict[str, RunRecord]


@pytest.mark.parametrize(
    ("name", "says", "ends"),
    [
        ("over", "over overoptimized: its training loss went on falling", "higher than before training"),
        ("good", "good improved: its score rose", "higher than before training"),
        ("flat", "flat shows no change", "no difference from the score before training is seen"),
        ("bad", "bad got worse: its score fell", "lower than before training"),
    ],
)
def test_one_run(runs: Runs, name: str, says: str, ends: str) -> None:
    first, second = finding([runs[name]]).sentences
    assert says in first
    assert ends in second


def test_overoptimized_names_the_step_it_fell_from(runs: Runs) -> None:
    first = finding([runs["over"]]).sentences[0]
    numbers = re.search(r"fell from ([\d.]+) at step 20 to ([\d.]+) at step 40", first)
    assert numbers is not None, first
    assert float(numbers[1]) == pytest.approx(1.2, abs=0.06)
    assert float(numbers[2]) == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize(("winner", "loser"), [("dpo", "rpo"), ("rpo", "dpo")])
@pytest.mark.parametrize("winner_first", [True, False])
def test_the_winner_is_the_one_with_the_higher_scores(
    tmp_path: Path, winner: str, loser: str, winner_first: bool
) -> None:
    high = read_run(make_run(tmp_path / "high", winner, [0.5, 0.8, 1.0, 1.1, 1.3]))
    low = read_run(make_run(tmp_path / "low", loser, [0.5, 0.8, 1.0, 1.0, 0.9]))
    found = finding([high, low] if winner_first else [low, high])
    assert f"{winner} scores higher than {loser}, by 0.4" in found.sentences[1]
    assert found.comparison is not None
    assert found.comparison.best == winner
    interval = found.comparison.pairs[0].result.difference
    assert interval.low < 0.4 < interval.high
    japanese = finding([high, low], "ja").sentences[1]
    assert f"{winner}が{loser}より0.4" in japanese


def test_no_difference(runs: Runs) -> None:
    first, second = finding([runs["good"], runs["alike"]]).sentences
    assert first.count("improved") == 2
    assert "no difference between" in second
    assert "higher than" not in second
    assert "差は確認できません" in finding([runs["good"], runs["alike"]], "ja").sentences[1]


def test_interval_of_the_sentence_is_that_of_the_paired_scores(tmp_path: Path) -> None:
    """Two prompts with differences 1 and 2: mean 1.5, standard error 0.5, t(0.975; 1) = 12.706."""
    low = read_run(make_run(tmp_path / "a", "low", [0.0, 0.0], gains=[0, 1], steps=[0, 4], prompts=2, noise=0))
    high = read_run(make_run(tmp_path / "b", "high", [0.0, 1.0], gains=[0, 1], steps=[0, 4], prompts=2, noise=0))
    answers = [a._replace(score=2.0) if a.prompt_id == "probe001" else a for a in high.samples[4]]
    shifted = RunRecord(**{**vars(high), "samples": {**high.samples, 4: answers}})
    found = finding([low, shifted])
    assert found.comparison is not None
    interval = found.comparison.pairs[0].result.difference
    assert interval.estimate == pytest.approx(1.5)
    assert interval.high - interval.estimate == pytest.approx(12.706 * 0.5, rel=1e-4)
    assert "95% interval −5 to 8" in found.sentences[1]


def test_several_runs_compare_the_best_with_each_other(runs: Runs) -> None:
    first, second = finding([runs[n] for n in ("over", "bad", "good")]).sentences
    assert first.index("over overoptimized") < first.index("bad got worse") < first.index("good improved")
    assert second.startswith("In the end good scores highest")
    assert "over by" in second
    assert "bad by" in second
    level = finding([runs[n] for n in ("over", "good", "alike")]).sentences[1]
    assert "while no difference is seen from" in level


def test_several_runs_are_compared_at_the_level_of_all_pairs(runs: Runs) -> None:
    comparison = compare_runs([evidence_of(runs[n]) for n in ("over", "bad", "good")])
    assert comparison is not None
    assert comparison.confidence == pytest.approx(1 - 0.05 / 3)
    alone = compare_runs([evidence_of(runs[n]) for n in ("over", "good")])
    assert alone is not None
    assert alone.confidence == pytest.approx(0.95)
    width = {p.other: p.result.difference.high - p.result.difference.low for p in comparison.pairs}
    only = alone.pairs[0].result.difference
    assert width["over"] > only.high - only.low


def test_many_runs_are_grouped(runs: Runs) -> None:
    first = finding(list(runs.values())).sentences[0]
    assert "overoptimized: over; worse: bad; no change: flat; improved: good and alike" in first
    assert "people should judge: unscored" in first


def test_without_a_score_nothing_is_concluded(runs: Runs) -> None:
    found = finding([runs["unscored"]])
    assert found.sentences[0].startswith("No conclusion on overoptimization is possible for unscored")
    assert "people should judge" in found.sentences[0]
    assert "symptom and not as proof" in found.sentences[1]
    assert "−12.0 nats in unscored" in found.sentences[1]
    assert not found.scored
    japanese = finding([runs["unscored"]], "ja")
    assert "判断できません" in japanese.sentences[0]
    assert "−12.0 nat" in japanese.sentences[1]


def test_rising_displacement_is_said_with_its_sign(tmp_path: Path) -> None:
    record = read_run(make_run(tmp_path / "r", "up", None, displacement=3.2))
    assert "+3.2 nats in up" in finding([record]).sentences[1]


def test_one_scored_and_one_unscored_run(runs: Runs) -> None:
    first, second = finding([runs["unscored"], runs["good"]]).sentences
    assert "good improved" in first
    assert "nothing can be concluded about unscored" in first
    assert second.startswith("good ends at")


def test_scores_of_different_scorers_are_not_compared(tmp_path: Path, runs: Runs) -> None:
    other = read_run(make_run(tmp_path / "o", "other", [0.5, 5, 5, 5, 5], config={"scorer": "another-rubric"}))
    found = finding([runs["good"], other])
    assert "cannot be compared" in found.sentences[1]
    assert "another-rubric and quickstart-rubric" in found.sentences[1]
    assert found.comparison is None


def test_runs_on_other_prompts_are_not_compared(tmp_path: Path, runs: Runs) -> None:
    other = read_run(make_run(tmp_path / "o", "other", [0.5, 5, 5, 5, 5], first_prompt=100))
    assert "share fewer than two scored prompts" in finding([runs["good"], other]).sentences[1]


def test_one_evaluation_is_too_little(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", "short", [0.5, 0.6], gains=[0, 1], steps=[0, 10])
    (folder / "samples" / "step-000010.jsonl").unlink()
    found = finding([read_run(folder)])
    assert "nothing can be concluded about short" in found.sentences[0]
    assert found.sentences[1].startswith("Too little was scored")


def test_first_evaluation_after_the_start_is_not_called_the_start(tmp_path: Path) -> None:
    record = read_run(make_run(tmp_path / "r", "late", [0.5, 1.5], gains=[0, 1], steps=[5, 10]))
    text = str(finding([record]))
    assert "before training" not in text
    assert "at step 5" in text


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_there_are_exactly_two_sentences(runs: Runs, lang: str) -> None:
    groups = [[name] for name in runs] + [["over", "good"], ["good", "alike"], ["over", "bad", "good"], list(runs)]
    stop = "。" if lang == "ja" else re.compile(r"\.(?:\s|$)")
    for names in groups:
        for sentence in finding([runs[n] for n in names], lang).sentences:
            ends = sentence.count(stop) if isinstance(stop, str) else len(stop.findall(sentence))
            assert ends == 1, sentence
            assert sentence.endswith("。" if lang == "ja" else ".")


def test_names_must_differ_and_exist(runs: Runs) -> None:
    with pytest.raises(RunError, match="both named 'good'"):
        finding([runs["good"], runs["good"]])
    with pytest.raises(RunError, match="no runs were given"):
        finding([])
    with pytest.raises(UsageError, match="accepted: en, ja"):
        finding([runs["good"]], "fr")
