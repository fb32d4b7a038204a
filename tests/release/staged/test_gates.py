"""Each guardrail alone: pass, fail, inconclusive; people only; pairs, arms and levels; hand-worked e-values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from safetyvalve.release.staged.gates import Gate, evaluate_gates
from safetyvalve.release.staged.observations import Observation
from safetyvalve.release.staged.settings import Settings, parse_settings
from safetyvalve.stats.two_arms import BETS
from tests.release.staged.material import SETTINGS

LATENCY = {"metric": "latency", "kind": "continuous", "better": "lower", "margin": 0.3}
MINUTES = {"metric": "minutes", "kind": "bounded", "range": [0, 30], "better": "lower", "margin": 1.0}
STARS = {"metric": "stars", "kind": "bounded", "range": [1, 5], "better": "higher", "margin": 0.3}


def _settings(*more: dict[str, Any], **changes: Any) -> Settings:
    return parse_settings(SETTINGS | {"guardrails": [*SETTINGS["guardrails"], *more]} | changes, "here")


def _observe(metric: str, values: Any, variant: str = "candidate", **more: Any) -> list[Observation]:
    given = {"stage": "pilot", "source": "records", "prefix": variant} | more
    prefix = given.pop("prefix")
    return [
        Observation(at=i, metric=metric, variant=variant, unit=f"{prefix}{i}", value=float(v), **given)
        for i, v in enumerate(values)
    ]


def _gate(metric: str, observations: list[Observation], stage: int = 1, *more: dict[str, Any], **changes: Any) -> Gate:
    settings = _settings(*more, **changes)
    return next(g for g in evaluate_gates(settings, settings.stages[stage], observations) if g.metric == metric)


def _coins(rate: float, n: int) -> np.ndarray:
    """Exactly that rate, spread evenly."""
    return np.diff(np.floor(np.arange(n + 1) * rate + 1e-9))


@pytest.mark.parametrize(
    ("rate", "n", "state"),
    [(0.6, 400, "pass"), (0.6, 20, "inconclusive"), (0.2, 400, "fail"), (0.4, 400, "inconclusive")],
)
def test_win_rate_against_its_level(rate: float, n: int, state: str) -> None:
    gate = _gate("human_win_rate", _observe("human_win_rate", _coins(rate, n), source="people"))
    assert gate.state == state
    assert gate.design == "level"
    assert gate.estimate == pytest.approx(rate - 0.5)
    assert gate.low is not None and gate.high is not None
    assert (gate.low > -0.1) == (state == "pass")
    if state == "fail":
        assert gate.high < -0.1


def test_e_value_of_a_level_by_hand() -> None:
    """Three wins against "at most 0.4": each bet c turns 1 into (1 + 1.5 c)^3."""
    gate = _gate("human_win_rate", _observe("human_win_rate", [1, 1, 1], source="people"))
    assert gate.log_e_pass == pytest.approx(math.log(np.mean((1 + BETS * (1 / 0.4 - 1)) ** 3)))


@pytest.mark.parametrize(
    ("rate", "other", "n", "state", "rollback"),
    [(0.01, 0.01, 300, "pass", False), (0.3, 0.05, 300, "fail", True), (0.08, 0.03, 100, "inconclusive", False)],
)
def test_harm_between_arms(rate: float, other: float, n: int, state: str, rollback: bool) -> None:
    rows = _observe("harm", _coins(rate, n)) + _observe("harm", _coins(other, 9 * n), "control")
    gate = _gate("harm", rows)
    assert (gate.state, gate.rollback) == (state, rollback)
    assert (gate.design, gate.candidate, gate.control) == ("arms", n, 9 * n)


def test_harm_is_rolled_back_before_its_margin_is_shown_to_be_lost() -> None:
    """A loss of 0.06 is inside the margin of 0.1 and shown to be above 0, which is where traffic is taken away."""
    rows = _observe("harm", _coins(0.07, 2000)) + _observe("harm", _coins(0.01, 18000), "control")
    gate = _gate("harm", rows)
    assert (gate.state, gate.rollback, gate.reason) == ("fail", True, "loss_shown")


def test_pairs_in_shadow() -> None:
    rows = _observe("harm", _coins(0.02, 400), stage="shadow", prefix="u")
    rows += _observe("harm", _coins(0.02, 399), "control", stage="shadow", prefix="u")
    gate = _gate("harm", rows, 0)
    assert (gate.state, gate.design, gate.candidate, gate.incomplete) == ("pass", "pairs", 399, 1)


def test_a_gain_on_one_metric_does_not_mask_a_loss_on_another() -> None:
    wins = _observe("human_win_rate", _coins(0.9, 400), source="people")
    harm = _observe("harm", _coins(0.4, 300)) + _observe("harm", _coins(0.05, 2700), "control")
    settings = _settings()
    states = {g.metric: g.state for g in evaluate_gates(settings, settings.stages[1], wins + harm)}
    assert states == {"human_win_rate": "pass", "harm": "fail"}


@pytest.mark.parametrize("kind", ["judge"])
def test_a_judge_alone_never_passes(kind: str) -> None:
    rows = _observe("human_win_rate", np.ones(5000), source=kind)
    gate = _gate("human_win_rate", rows)
    assert (gate.state, gate.reason, gate.judged) == ("inconclusive", "no_people", 5000)
    helped = SETTINGS["guardrails"][0] | {"judge_weight": 0.9}
    gate = _gate("human_win_rate", rows, guardrails=[helped, SETTINGS["guardrails"][1]])
    assert gate.state == "inconclusive"
    few = rows + _observe("human_win_rate", [1.0, 1.0], source="people", prefix="candidate")
    assert _gate("human_win_rate", few, guardrails=[helped, SETTINGS["guardrails"][1]]).state == "inconclusive"


def test_a_judge_helps_people() -> None:
    draw = np.random.default_rng(0)
    y = (draw.random(3000) < 0.6).astype(float)
    f = np.where(draw.random(3000) < 0.9, y, 1 - y)
    people = _observe("human_win_rate", y[:150], source="people")
    judge = _observe("human_win_rate", f, source="judge")
    alone = _gate("human_win_rate", people + judge)
    helped = _gate(
        "human_win_rate",
        people + judge,
        guardrails=[SETTINGS["guardrails"][0] | {"judge_weight": 0.7}, SETTINGS["guardrails"][1]],
    )
    assert helped.design == "judge-helped"
    assert alone.low is not None and alone.high is not None and helped.low is not None and helped.high is not None
    assert helped.high - helped.low < alone.high - alone.low
    assert helped.low < 0.1 < helped.high


def test_bounded_values_are_capped_and_counted() -> None:
    rows = _observe("minutes", [2.0] * 400 + [500.0]) + _observe("minutes", [2.0] * 2000, "control")
    gate = _gate("minutes", rows, 1, MINUTES)
    assert (gate.state, gate.capped) == ("pass", 1)
    assert gate.estimate == pytest.approx(28 / 401)


def test_higher_is_better_in_its_own_unit() -> None:
    draw = np.random.default_rng(1)
    stars = [1.0, 2.0, 3.0, 4.0, 5.0]
    worse = draw.choice(stars, 900, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    control = draw.choice(stars, 4000, p=[0.1, 0.1, 0.1, 0.2, 0.5])
    gate = _gate("stars", _observe("stars", worse) + _observe("stars", control, "control"), 1, STARS)
    assert gate.state == "fail"
    assert gate.high is not None and gate.high < -0.3
    assert gate.estimate == pytest.approx(worse.mean() - control.mean())


def test_continuous_needs_many_and_says_so() -> None:
    draw = np.random.default_rng(2)
    few = _observe("latency", draw.lognormal(0, 0.5, 99)) + _observe("latency", draw.lognormal(0, 0.5, 900), "control")
    gate = _gate("latency", few, 1, LATENCY)
    assert (gate.state, gate.reason) == ("inconclusive", "too_few")
    many = _observe("latency", draw.lognormal(0, 0.5, 800)) + _observe(
        "latency", draw.lognormal(0, 0.5, 7000), "control"
    )
    gate = _gate("latency", many, 1, LATENCY)
    assert (gate.state, gate.exact) == ("pass", False)


def test_nothing_recorded_and_a_variant_that_never_appears() -> None:
    assert _gate("harm", []).reason == "no_data"
    assert _gate("harm", _observe("harm", [0, 0])).reason == "no_control"


def test_other_stages_are_not_counted() -> None:
    rows = _observe("human_win_rate", _coins(0.6, 400), source="people", stage="shadow")
    assert _gate("human_win_rate", rows).reason == "no_data"


def test_union_bound_over_tests_and_stages() -> None:

    settings = _settings()
    # shadow and pilot: win rate, harm, harm's rollback; full: win rate only, as nothing is left to compare harm with.
    assert settings.stop_level() == pytest.approx(0.05 / 7)
