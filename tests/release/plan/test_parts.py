"""Label noise, settings, costs and words of a plan."""

from __future__ import annotations

import string

import numpy as np
import pytest

from safetyvalve.data.quality import label_noise
from safetyvalve.errors import UsageError
from safetyvalve.release.plan import (
    Rates,
    accuracy_ceiling,
    cost_lines,
    plan_noise,
    plan_settings,
    read_rates,
    repeats_needed,
    sweep_steps,
)
from safetyvalve.release.plan.words import WORDS
from safetyvalve.stats import Interval


def test_ceiling_by_hand() -> None:
    """d = 0.32: all pairs alike have e = 0.2, so 0.8; certain pairs and coins are right in 0.68."""
    assert accuracy_ceiling(0.32) == pytest.approx((0.68, 0.8))
    assert accuracy_ceiling(0) == (1, 1)
    assert accuracy_ceiling(0.5) == accuracy_ceiling(0.9) == (0.5, 0.5)


def test_ceiling_holds_whatever_the_noise() -> None:
    """Chances drawn from many laws: the best accuracy lies between the ends."""
    generator = np.random.default_rng(0)
    for a, b in ((1, 1), (0.2, 0.2), (5, 1), (20, 18), (0.05, 0.05)):
        p = generator.beta(a, b, 20_000)
        least, most = accuracy_ceiling(float((2 * p * (1 - p)).mean()))
        assert least - 1e-9 <= np.maximum(p, 1 - p).mean() <= most + 1e-9


def test_noise_estimated() -> None:
    found = plan_noise(label_noise([[True, True], [True, False]] * 50), Interval(0.6, 0.5, 0.7, 0.05, 9))
    assert found.estimated is not None
    assert found.ceiling == pytest.approx((0.5, 0.5))
    assert found.ceiling_widest is not None
    assert found.ceiling_widest[0] <= 0.5 <= found.ceiling_widest[1]
    assert found.scenarios == ()


def test_noise_unknown_gives_scenarios() -> None:
    found = plan_noise(None, Interval(0.75, 0.7, 0.8, 0.02, 9))
    assert found.estimated is None
    assert found.ceiling is None
    by_rate = {s.error_rate: s for s in found.scenarios}
    assert by_rate[0.1].probe_on_truth == pytest.approx(0.65 / 0.8)
    assert by_rate[0.3].probe_on_truth is None  # (0.75 - 0.3) / 0.4 > 1: such labels could not be met so often
    (asked,) = plan_noise(None, None, assumed=0.2).scenarios
    assert (asked.error_rate, asked.ceiling, asked.probe_on_truth) == (0.2, 0.8, None)
    assert repeats_needed() == 385
    with pytest.raises(UsageError, match=r"label error is 0\.5"):
        plan_noise(None, None, assumed=0.5)


def test_settings() -> None:
    plan = plan_settings(400)
    assert plan.scale == 0.05
    assert [r.eta for r in plan.runs if r.purpose == "eta"] == [0.013, 0.025, 0.05, 0.1, 0.2]
    assert plan.eta == 0.05
    assert plan.parity_margin == pytest.approx(np.log(19))
    assert plan.n_runs == sum(r.seeds for r in plan.runs) == 12
    assert plan_settings(1_000_000).eta == 0.001
    with pytest.raises(UsageError):
        plan_settings(0)


def test_steps() -> None:
    assert sweep_steps(100, 9, 1) == 10  # a tenth is held out
    assert sweep_steps(101, 9, 2) == 21
    assert sweep_steps(1, 8, 0.5) == 1


def test_costs() -> None:
    costs = cost_lines(Rates(2500, 300, "JPY"), evaluation=10, repeats=2, doubling=40, sweep=6)
    assert {line.work: line.money for line in costs.lines} == {
        "evaluation": 25_000,
        "repeats": 5_000,
        "doubling": 100_000,
        "sweep": 1_800,
    }
    assert costs.total == 26_800
    assert costs.missing == ()


def test_what_is_not_known_is_not_nothing() -> None:
    costs = cost_lines(Rates(), evaluation=None, repeats=None, doubling=40, sweep=None)
    assert costs.total is None
    assert all(line.money is None for line in costs.lines)
    assert costs.missing == ("win-rate", "model", "wage", "machine-rate")
    assert cost_lines(Rates(2500, None, "JPY"), evaluation=10, repeats=None, doubling=1, sweep=6).total is None


def test_rates() -> None:
    assert read_rates("0.25万円", None, None) == (2500, None, "JPY")
    assert read_rates("２５００円", "300", "jpy") == (2500, 300, "JPY")
    assert read_rates("40", None, "USD") == (40, None, "USD")
    assert read_rates(None, None, None) == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("40", None, None), "--currency is missing"),
        ((None, None, "USD"), "no meaning without"),
        (("2500円", None, "USD"), "in 円"),
        (("0", None, "USD"), "above 0"),
        (("cheap", None, "USD"), "--wage is 'cheap'"),
        (("40", None, "dollars"), "three letters"),
    ],
)
def test_wrong_rates(arguments: tuple[str | None, str | None, str | None], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_rates(*arguments)


def test_both_languages_say_the_same() -> None:
    english, japanese = WORDS["en"], WORDS["ja"]
    assert list(english) == list(japanese)

    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key in english:
        assert places(english[key]) == places(japanese[key]), key
        if key.endswith("_table"):
            assert english[key].count("|") == japanese[key].count("|"), key
