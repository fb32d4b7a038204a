"""The whole of a file: truth that was built in is found, and what cannot be concluded is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from safetyvalve.errors import UsageError
from safetyvalve.stats import Verdict, summarize
from safetyvalve.stats.overview import plain
from tests.stats.simulated import verdict, verdicts


def test_strong_evidence() -> None:
    overview = summarize(verdicts({"w": 1.5, "x": 0.0, "y": -1.5}, 120, raters=3, judge="j"), family={"j": ["w"]})
    people = [p for p in overview.pairs if p.kind == "human"]
    assert [(p.model_a, p.model_b, p.rate.shows) for p in people if p.rate] == [
        ("w", "x", "better"),
        ("w", "y", "better"),
        ("x", "y", "better"),
    ]
    assert all(p.anytime and p.anytime.low > 0.5 and p.anytime.log_e > 5 for p in people)
    assert all(p.rate and p.rate.interval.n == 120 and p.rate.verdicts == 360 for p in people)
    ranking = overview.rankings[0].ranking
    assert ranking
    assert [m.model for m in ranking.models] == ["w", "x", "y"]
    (judge,) = overview.judges
    assert (judge.items, judge.both_orders, judge.one_order, judge.common) == (360, 360, 0, 360)
    assert judge.position is not None
    assert judge.position.low < 0 < judge.position.high
    assert judge.family is not None
    assert {line.measure for line in overview.agreement} == {"alpha, nominal", "alpha, ordinal", "kappa"}
    json.dumps(plain(overview), allow_nan=False)


def test_cautions() -> None:
    def said(rows: list[Verdict]) -> str:
        return "\n".join(summarize(rows).cautions)

    few = [verdict(prompt_id=f"p{i}", verdict="ab"[i % 2]) for i in range(10)]
    assert "no difference is shown: x and y" in said(few)
    assert "under 30 prompts" in said(few)
    assert "One person judged" in said(few)
    judge = [verdict(prompt_id=f"p{i}", rater_kind="judge", rater="j", length_a=1, length_b=2 + i) for i in range(40)]
    assert "No person judged" in said(judge)
    assert "judged in one order only" in said(judge)
    assert "no finite estimate exists" in said(judge)
    missing = [verdict(prompt_id=f"p{i}", verdict="none" if i % 5 == 0 else "both_bad") for i in range(40)]
    assert "8 of 40" in said(missing)
    assert "both were bad" in said(missing)
    assert "no verdict at all: x and y (2 asked)" in said([verdict(prompt_id=p, verdict="none") for p in "pq"])
    apart = [verdict(prompt_id=p, model_a=a, model_b=b) for p in "pq" for a, b in (("a", "b"), ("c", "d"))]
    assert "no comparisons connect these groups: a, b | c, d" in said(apart)
    best = [
        verdict(prompt_id=f"p{i}", model_a=a, model_b=b, verdict="a" if a == "t" else "ab"[i % 2])
        for i in range(40)
        for a, b in (("t", "x"), ("t", "y"), ("x", "y"))
    ]
    assert "{t} > {x, y}" in said(best)


def test_biased_judge_is_named() -> None:
    """Always the first answer, in both orders: all ties, and the bias is found."""
    rows = []
    for i in range(60):
        rows.append(verdict(prompt_id=f"p{i}", verdict="ab"[i % 2]))
        for repeat, (position, word) in enumerate((("a_first", "a"), ("b_first", "b"))):
            judged = {"rater": "j", "rater_kind": "judge", "repeat": repeat, "position": position}
            rows.append(verdict(prompt_id=f"p{i}", verdict=word, **judged))
    overview = summarize(rows)
    (judge,) = overview.judges
    assert (judge.disagreed, judge.position and judge.position.estimate) == (60, 0.5)
    assert any("j prefers the answer shown first more often than fair: +50.0 points" in c for c in overview.cautions)


def test_people_and_judge_together() -> None:
    """Prompts that only the judge saw enter by PPI++; chances of being drawn take the caution away."""
    rows = verdicts({"x": 0.6, "y": 0.0}, 200, raters=1, judge="j")
    rows = [v for v in rows if v.rater == "j" or int(v.prompt_id[1:]) < 60]
    (line,) = summarize(rows).corrected
    assert line.result.human_only.n == 60
    assert line.result.judge_only.n == 200
    assert any("random sample" in c for c in summarize(rows).cautions)
    drawn = [v if v.rater == "j" else v.model_copy(update={"inclusion_probability": 0.3}) for v in rows]
    assert summarize(drawn).corrected[0].weighted
    assert summarize(drawn).corrected[0].result.interval == pytest.approx(line.result.interval)
    assert not any("chances" in c for c in summarize(drawn).cautions)


def test_unequal_chances_of_being_drawn() -> None:
    """Prompts that x wins are judged by people three times as often; PPI++ is right all the same."""
    draw = np.random.default_rng(13)
    rows = []
    for i in range(4000):
        won = draw.random() < 0.5
        judge = "a" if won != (draw.random() < 0.2) else "b"
        rows.append(verdict(prompt_id=f"p{i}", verdict=judge, rater="j", rater_kind="judge"))
        chance = 0.15 if won else 0.05
        if draw.random() < chance:
            rows.append(verdict(prompt_id=f"p{i}", verdict="a" if won else "b", inclusion_probability=chance))
    (line,) = summarize(rows).corrected
    assert line.result.interval.low < 0.5 < line.result.interval.high
    assert line.result.interval.high < 0.6
    plain_rate = summarize(rows).pairs[0].rate
    assert plain_rate
    assert plain_rate.interval.low > 0.6


def test_self_consistency_of_people() -> None:
    rows = [verdict(prompt_id=f"p{i}", verdict="ab"[i % 2], repeat=k) for i in range(20) for k in (0, 1)]
    (line,) = [a for a in summarize(rows).agreement if a.who == "people with themselves"]
    assert line.agreement
    assert line.agreement.interval.estimate == 1


def test_refusals() -> None:
    with pytest.raises(UsageError, match="none on an item that is not gold"):
        summarize([verdict(gold=True)])
    with pytest.raises(UsageError, match="family of 'k'"):
        summarize([verdict()], family={"k": ["x"]})
