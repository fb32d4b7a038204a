"""Alarms: hand-worked values, what is not measured, and false alarms no more often than stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from safetyvalve.diagnostics.alarms import (
    ALARMS,
    Bounds,
    Displacement,
    Drift,
    Estimate,
    Evaluation,
    ProxyGap,
    Watch,
    advice,
    evaluation_of,
    share_of_look,
)
from safetyvalve.errors import UsageError
from safetyvalve.stats import log_e_value


def by_prompt(values: list[float] | np.ndarray) -> dict[str, float]:
    return {f"p{i}": float(v) for i, v in enumerate(values)}


def test_looks_share_alpha() -> None:
    assert share_of_look(1, 0.06) == pytest.approx(0.03)
    assert share_of_look(2, 0.06) == pytest.approx(0.01)
    assert sum(share_of_look(k, 0.06) for k in range(1, 100_000)) == pytest.approx(0.06, abs=1e-6)


def test_displacement_by_hand() -> None:
    """At the first look of alpha 0.1 the one-sided t quantile with 4 degrees of freedom at 0.95 is 2.132."""
    watch = Displacement(0.1, alpha=0.1)
    quiet = watch.see(10, Estimate(-0.3, 0.1, 5))
    assert quiet is not None and not quiet.raised
    assert quiet.bound == pytest.approx(-0.3 + 2.1318 * 0.1, abs=1e-4)
    second = watch.see(20, Estimate(-0.3, 0.05, 5))  # at 1 - 0.1 / 6 the quantile is 3.187
    assert second is not None and second.raised
    assert second.bound == pytest.approx(-0.3 + stats.t.ppf(1 - 0.1 / 6, 4) * 0.05)
    assert watch.see(30, None) is None


def test_drift_by_hand() -> None:
    """Differences to 1.5 times the first: 1, 2, 3; standard error 1 / sqrt(3); t of 2 degrees at 0.95: 2.920."""
    watch = Drift("uncertainty", Bounds(1.5), alpha=0.1)
    assert watch.see(0, by_prompt([2, 2, 2])) is None
    said = watch.see(5, by_prompt([4, 5, 6]))
    assert said is not None and said.raised
    assert said.value == pytest.approx(2.5)
    assert said.bound == pytest.approx(1.5 + (2 - 2.9200 / math.sqrt(3)) / 2, abs=1e-4)
    assert (said.limit, said.n, said.since) == (1.5, 3, 0)


def test_length_falls_too() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(50, 5, 40)
    watch = Drift("length", Bounds(1.25, low_factor=0.75), alpha=0.05)
    watch.see(0, by_prompt(first))
    shorter = watch.see(10, by_prompt(first * 0.5))
    same = watch.see(20, by_prompt(first + 1))
    assert shorter is not None and shorter.raised and shorter.value == pytest.approx(0.5)
    assert shorter.limit == 0.75 and shorter.value < shorter.bound < 0.75
    assert same is not None and not same.raised


def test_only_prompts_in_common_count() -> None:
    watch = Drift("repetition", Bounds(add=0.05), alpha=0.05)
    watch.see(0, {"a": 0.0, "b": 0.0, "c": 0.0})
    assert watch.see(1, {"a": 0.5, "z": 0.9}) is None  # one is no spread
    said = watch.see(2, {"a": 0.4, "b": 0.5, "z": 0.0})
    assert said is not None and said.n == 2 and said.value == pytest.approx(0.45)


def test_gap_by_hand() -> None:
    """Two evaluations: the e-value of the cut differences, weighted by a half; the smaller of score and proxy."""
    first, later = [0.0, 1.0, 2.0, 3.0], [-3.0, -2.0, -1.0, 0.5]
    watch = ProxyGap(alpha=0.05)
    assert watch.see(Evaluation(0, score=by_prompt(first), proxy=by_prompt(first))) is None
    said = watch.see(Evaluation(8, score=by_prompt(later), proxy=by_prompt([9.0, 9.0, 9.0, 9.0])))
    cut = 3 * np.std(first, ddof=1)
    down = log_e_value(0.5 + (np.array(later) - first) / (2 * cut), side="below")
    up = log_e_value(0.5 + np.clip((9 - np.array(first)) / cut, -1, 1) / 2, side="above")
    assert said is not None and down < up
    assert said.bound == pytest.approx(down + math.log(0.5))
    assert said.limit == pytest.approx(math.log(20))
    assert said.value == pytest.approx(-2.875) and not said.raised


def test_gap_needs_both_sides() -> None:
    n = 200
    rng = np.random.default_rng(1)
    high, low = rng.normal(1, 1, n), rng.normal(-1, 1, n)

    def raised(second_proxy: np.ndarray, second_score: np.ndarray) -> bool:
        watch = ProxyGap(alpha=0.01)
        watch.see(Evaluation(0, score=by_prompt(high), proxy=by_prompt(low)))
        said = watch.see(Evaluation(1, score=by_prompt(second_score), proxy=by_prompt(second_proxy)))
        return said is not None and said.raised

    assert raised(high, low)
    assert not raised(low - 1, low)  # both fell
    assert not raised(high, high + 1)  # both rose


@pytest.mark.parametrize(("losses", "raised"), [((0.7, 0.4), True), ((0.4, 0.7), False)])
def test_training_loss_stands_for_the_proxy(losses: tuple[float, float], raised: bool) -> None:
    rng = np.random.default_rng(2)
    watch = ProxyGap(alpha=0.01)
    watch.see(Evaluation(0, score=by_prompt(rng.normal(1, 1, 200)), training_loss=losses[0]))
    said = watch.see(Evaluation(1, score=by_prompt(rng.normal(-1, 1, 200)), training_loss=losses[1]))
    assert said is not None and said.raised is raised


def test_what_is_not_measured_is_not_judged() -> None:
    watch = Watch()
    assert watch.see(Evaluation(0)) == []
    assert watch.see(Evaluation(5, score={"a": 1.0})) == []  # nothing stands for the proxy
    constant = by_prompt([1.0] * 10)
    watch = Watch()
    watch.see(Evaluation(0, score=constant, proxy=constant))
    (said,) = watch.see(Evaluation(1, score=by_prompt([-5.0] * 10), proxy=constant))
    assert not said.raised  # a score without spread sets no scale


def test_missing_scores_are_left_out() -> None:
    rows = [
        {"probe": "a", "tokens": 4, "repetition": 0.0, "independent_score": None},
        {"probe": "a", "tokens": 6, "repetition": 0.0, "independent_score": 2.0},
        {"probe": "b", "tokens": 3, "repetition": 0.0, "independent_score": float("nan"), "proxy_width": 0.5},
    ]
    seen = evaluation_of(3, {}, rows, {1: 0.9, 2: 0.6, 3: 0.4}, before=1)
    assert seen.score == {"a": 2.0}
    assert seen.tokens == {"a": 5.0, "b": 3.0}
    assert seen.spread == {"b": 0.5}
    assert seen.training_loss == pytest.approx(0.5)
    assert seen.displacement is None


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_levels_out_of_range(level: float) -> None:
    with pytest.raises(UsageError, match="chance of a false alarm between 0 and 1"):
        Watch(alpha=level)
    with pytest.raises(UsageError, match=r"limit is 0.*above 0"):
        Displacement(0, alpha=0.05)


def test_every_alarm_speaks() -> None:
    rng = np.random.default_rng(3)
    watch = Watch()
    names = {"score": 60, "proxy": 60, "tokens": 60, "repetition": 60, "spread": 60}
    first = {k: by_prompt(rng.uniform(0.5, 1, n)) for k, n in names.items()}
    watch.see(Evaluation(0, Estimate(0, 0.001, 30), **first))
    later = {k: {p: 3 * v for p, v in first[k].items()} for k in ("proxy", "tokens", "repetition", "spread")}
    later["score"] = {p: v - 1 for p, v in first["score"].items()}
    said = watch.see(Evaluation(9, Estimate(-1, 0.1, 30), **later))
    assert tuple(a.name for a in said) == ALARMS
    assert all(a.raised and a.name in a.says and "ALARM" in a.says and advice(a.name) for a in said)


def test_healthy_runs_raise_no_more_alarms_than_stated() -> None:
    """Runs that stand exactly at the tolerances, the hardest ones that are not to be called: 300 of each."""
    rng = np.random.default_rng(4)
    runs, alpha, false = 300, 0.2, dict.fromkeys(ALARMS, 0)
    for _ in range(runs):
        watch, raised = Watch(alpha=alpha), set()
        taste = rng.normal(0, 0.6, 40)
        for k in range(6):
            scale = 1.25 if k else 1.0
            for alarm in watch.see(
                Evaluation(
                    k,
                    Estimate(rng.normal(-0.1, 0.02), 0.02, 1000) if k else Estimate(0, 0.02, 1000),
                    tokens=by_prompt(rng.normal(40, 12, 40) * scale),
                    repetition=by_prompt(rng.beta(1, 9, 40) + (0.05 if k else 0)),
                    score=by_prompt(taste + rng.normal(0, 0.8, 40)),
                    proxy=by_prompt(rng.normal(k, 1, 40)),
                    spread=by_prompt(rng.gamma(9, scale / 9, 40)),
                )
            ):
                if alarm.raised:
                    raised.add(alarm.name)
        for name in raised:
            false[name] += 1
    for name, count in false.items():
        # Clopper-Pearson's lower end of the rate must not be above what is stated for one alarm.
        low = stats.beta.ppf(0.001, count, runs - count + 1) if count else 0.0
        assert low <= alpha / len(ALARMS), (name, count)
    assert sum(false.values()) > 0  # at the edge they are raised now and then, else this test would show nothing
