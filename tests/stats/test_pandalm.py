"""The numbers of PandaLM's public human test set (skipped where the file is absent)."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from safetyvalve.stats import accuracy, cohen_kappa, krippendorff_alpha, majority, ppi_mean, read_verdicts, resolve
from safetyvalve.stats.judge_bias import Missing
from safetyvalve.stats.resolve import Resolved
from tests.stats.simulated import clopper_pearson

FILE = Path(__file__).parents[3] / "shared" / "data" / "pandalm-human-testset.jsonl"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="PandaLM's human test set is not here")

Table = dict[str, dict[str, Resolved]]


@pytest.fixture(scope="module")
def table() -> Table:
    """rater -> item -> verdict."""
    file = read_verdicts(FILE)
    assert (file.form, len(file.verdicts)) == ("pandalm", 999 * 5)
    found: Table = {}
    for entry in resolve(file.verdicts):
        found.setdefault(entry.rater, {})[entry.item] = entry
    return found


def words(table: Table, rater: str) -> list[str]:
    return [e.verdict for _, e in sorted(table[rater].items())]


def people(table: Table) -> list[list[str]]:
    return [list(v) for v in zip(*(words(table, f"annotator{k}") for k in (1, 2, 3)), strict=True)]


def prompts(table: Table) -> list[str]:
    return [e.prompt for _, e in sorted(table["annotator1"].items())]


def test_kappa_and_alpha(table: Table) -> None:
    kappas = [
        cohen_kappa(words(table, f"annotator{a}"), words(table, f"annotator{b}")).interval.estimate
        for a, b in combinations((1, 2, 3), 2)
    ]
    assert [round(k, 4) for k in kappas] == [0.8520, 0.8789, 0.8617]
    units = [i for i in range(999) for _ in range(3)]
    alpha = krippendorff_alpha(units, [v for row in people(table) for v in row])
    assert alpha.interval.estimate == pytest.approx(0.8642207, abs=5e-8)


def test_majority_labels(table: Table) -> None:
    """Counted in the file's own order of the models, in which 1 is the first answer."""
    first = {v.item_id: v.verdict for v in read_verdicts(FILE).verdicts if v.rater == "annotator1"}
    votes: dict[str, list[str]] = {item: [] for item in first}
    for v in read_verdicts(FILE).verdicts:
        if v.rater_kind == "human":
            votes[v.item_id].append(v.verdict)
    assert Counter(majority(v) for v in votes.values()) == {"tie": 105, "a": 422, "b": 472}


@pytest.mark.parametrize(
    ("judge", "missing", "expected"),
    [
        ("pandalm_7b", "drop", 0.6677),
        ("gpt_3_5", "tie", 0.7107),
        ("gpt_3_5", "wrong", 0.6977),
        ("gpt_3_5", "drop", 0.7156),
    ],
)
def test_judge_accuracy(table: Table, judge: str, missing: Missing, expected: float) -> None:
    said = [None if v == "none" else v for v in words(table, judge)]
    assert said.count(None) == (25 if judge == "gpt_3_5" else 0)
    found = accuracy(said, [majority(v) for v in people(table)], prompts(table), missing=missing)
    assert round(found.estimate, 4) == expected


@pytest.mark.parametrize("judge", ["pandalm_7b", "gpt_3_5"])
def test_a_judge_helps_and_cannot_replace_people(table: Table, judge: str) -> None:
    """100 of 999 items with people's verdicts, drawn 600 times. The aim is the mean of all 999, so that intervals for a
    larger population may cover more than they say; the judge alone does not move with the draw."""
    score = {"a": 1.0, "b": 0.0, "tie": 0.5, "none": 0.5}
    # Sides as in the file would be half and half for any judge; the model that is first in the alphabet is not.
    human = np.array([np.mean([score[v] for v in row]) for row in people(table)])
    judged = np.array([score[v] for v in words(table, judge)])
    draw = np.random.default_rng(12)
    n, held, ratio = 600, 0, []
    for _ in range(n):
        order = draw.permutation(999)
        seen, rest = order[:100], order[100:]
        found = ppi_mean(human[seen], judged[seen], judged[rest])
        held += found.interval.low < human.mean() < found.interval.high
        ratio.append(found.interval.standard_error / found.human_only.standard_error)
    assert clopper_pearson(held, n)[0] > 0.9
    assert 0.7 < np.mean(ratio) < 0.95
