"""People's win rate: whose side it is on, when a judge helps, and what is refused."""

from __future__ import annotations

import pytest

from safetyvalve.errors import DataError
from safetyvalve.release import quality
from safetyvalve.release.quality import human_win_rate
from safetyvalve.stats import Verdict, win_rate
from tests.stats.simulated import verdict, verdicts


def both(**models: float) -> list[Verdict]:
    return verdicts(models, prompts=60, raters=1, seed=1)


def test_by_hand_and_from_the_other_side() -> None:
    found = [
        verdict(prompt_id=f"p{i}", verdict=v, length_a=100, length_b=200)
        for i, v in enumerate(["a", "a", "b", "tie", "both_bad", "none", "a", "b"])
    ]
    x, y = human_win_rate(found, "x"), human_win_rate(found, "y", "x")
    assert x.interval.estimate == pytest.approx(4 / 7) and y.interval.estimate == pytest.approx(3 / 7)
    assert (y.interval.low, y.interval.high) == pytest.approx((1 - x.interval.high, 1 - x.interval.low))
    expected = win_rate([1, 1, 0, 0.5, 0.5, 1, 0], list("abcdefg")).interval
    assert x.interval == pytest.approx(expected)
    assert (x.baseline, x.verdicts, x.none, x.people, x.judge) == ("y", 7, 1, 1, None)
    assert x.both_bad.estimate == y.both_bad.estimate == pytest.approx(1 / 7)
    assert (x.length_ratio, y.length_ratio) == (0.5, 2.0)


def test_a_judge_helps_where_labels_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = verdicts({"x": 1.0, "y": 0.0}, prompts=400, raters=1, seed=3, judge="j")
    few = [v for v in all_of_them if v.rater_kind == "judge" or int(v.prompt_id[1:]) < 50]
    found = human_win_rate(few, "x")
    assert found.judge == "j" and found.interval.n == 50 and not found.random_sample
    assert found.people_only.estimate != found.interval.estimate
    people = [v for v in few if v.rater_kind == "human"]
    assert human_win_rate(people, "x").judge is None
    with pytest.raises(DataError, match="judge 'k' has too few verdicts"):
        human_win_rate(few, "x", judge="k")
    monkeypatch.setattr(quality, "FEW_LABELS", 50)
    assert human_win_rate(few, "x").judge is None and human_win_rate(few, "x", judge="j").judge == "j"


def test_a_judge_alone_says_nothing_of_people() -> None:
    alone = [v for v in verdicts({"x": 1.0, "y": 0.0}, 10, judge="j") if v.rater_kind == "judge"]
    with pytest.raises(DataError, match="a judge alone is no evidence of what people prefer"):
        human_win_rate(alone, "x")


def test_models_that_are_not_there() -> None:
    three = both(old=0.0, new=1.0, third=0.5)
    with pytest.raises(DataError, match=r"'new' met old, third\. Name the one to compare with by --baseline"):
        human_win_rate(three, "new")
    assert human_win_rate(three, "new", "old").baseline == "old"
    with pytest.raises(DataError, match=r"no verdict is about 'neww'; models are new, old, third\. Did you mean 'new'"):
        human_win_rate(three, "neww")
    with pytest.raises(DataError, match="was not compared with 'q'"):
        human_win_rate([*three, verdict(model_a="p", model_b="q")], "new", "q")
