"""Stated error rates hold over simulated releases, and what the simulation says of time is what it should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from safetyvalve.errors import UsageError
from safetyvalve.release.staged.settings import Settings, parse_settings
from safetyvalve.release.staged.simulate import _levels, _series, simulate_release
from tests.release.staged.material import SETTINGS
from tests.stats.simulated import clopper_pearson

WIN = SETTINGS["guardrails"][0] | {"planning": {"per_day": 40, "control": 0.5, "candidate": 0.6, "spread": 0.4}}
HARM = SETTINGS["guardrails"][1] | {"margin": 0.05, "planning": {"per_day": 300, "control": 0.05}}
MINUTES = {
    "metric": "minutes", "kind": "bounded", "range": [0, 30], "better": "lower", "margin": 0.8,
    "planning": {"per_day": 300, "control": 3.0, "spread": 3.0},
}  # fmt: skip
WAIT = {
    "metric": "wait", "kind": "continuous", "better": "lower", "margin": 0.3,
    "planning": {"per_day": 600, "control": 1.5, "spread": 1.0},
}  # fmt: skip
STAGES = [
    {"name": "shadow", "share": 0.0, "min_days": 2},
    {"name": "pilot", "share": 0.2, "min_days": 5},
    {"name": "full", "share": 1.0},
]


def _settings(*guardrails: dict[str, Any]) -> Settings:
    return parse_settings(SETTINGS | {"guardrails": list(guardrails), "stages": STAGES}, "here")


def test_rates_and_days() -> None:
    found = simulate_release(_settings(WIN, HARM), releases=300, days=25, seed=1)
    assert found.good_reaches_full > 0.9
    assert clopper_pearson(round(found.good_stopped * 300), 300)[0] < found.allowed_stop
    assert clopper_pearson(round(found.bad_reaches_full * 300), 300)[0] < found.allowed_bad
    shadow, pilot = found.stages
    assert shadow.days is not None and pilot.days is not None and pilot.harm_days is not None
    assert shadow.days.early >= 2 and pilot.days.early >= 5
    assert shadow.days.early <= shadow.days.median <= shadow.days.late
    assert pilot.harm_stopped is not None and pilot.harm_stopped > 0.5


def test_more_traffic_takes_fewer_days() -> None:
    busy = HARM | {"planning": HARM["planning"] | {"per_day": 3000}}
    slow = simulate_release(_settings(WIN, HARM), releases=60, days=25)
    fast = simulate_release(_settings(WIN, busy), releases=60, days=25)
    assert fast.stages[1].harm_days is not None and slow.stages[1].harm_days is not None
    assert fast.stages[1].harm_days.median < slow.stages[1].harm_days.median


def test_drawn_values_have_the_planned_mean_and_spread() -> None:
    guardrail = _settings(WIN, MINUTES).guardrails[1]
    levels, chance = _levels(guardrail, 3.0)
    assert 30 * (levels @ chance) == pytest.approx(3.0, abs=1e-6)
    assert 2.2 < 30 * np.sqrt(((levels - 0.1) ** 2) @ chance) < 3.0
    look = _series(_settings(WIN, WAIT).guardrails[1], 2.0, 500, 400, np.random.default_rng(0))
    for day in (1, 2, 3):
        arm = look(day)
    assert arm is not None
    assert arm.means.mean() == pytest.approx(2.0, abs=0.01)
    assert arm.means.std() == pytest.approx(1 / np.sqrt(1500), rel=0.2)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no guardrail"):
        simulate_release(parse_settings(SETTINGS, "here"), releases=2, days=2)
    with pytest.raises(UsageError, match="has no spread"):
        plan = {"per_day": 5, "control": 3.0}
        simulate_release(_settings(WIN, MINUTES | {"planning": plan}), releases=2, days=2)
    with pytest.raises(UsageError, match="leads to a mean of 1"):
        simulate_release(_settings(WIN, HARM | {"planning": {"per_day": 5, "control": 0.96}}), releases=2, days=2)


@pytest.mark.slow
def test_stated_rates_hold_over_2000_releases() -> None:
    """Every kind of metric; a rate above what is stated by more than 2,000 draws allow (Clopper-Pearson) fails."""
    found = simulate_release(_settings(WIN, HARM, MINUTES, WAIT), releases=2000, days=25, seed=2)
    for rate, allowed in (
        (found.good_stopped, found.allowed_stop),
        (found.bad_reaches_full, found.allowed_bad),
        *((stage.bad_leaves, found.allowed_bad) for stage in found.stages),
    ):
        assert clopper_pearson(round(rate * 2000), 2000)[0] < allowed
    assert found.good_reaches_full > 0.8
