"""Sample size: the textbook formula, simulated power with crossed effects, monotony, and plans that cannot work."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from safetyvalve.errors import UsageError
from safetyvalve.stats import (
    Design,
    clustered_mean,
    detectable_win_rate,
    log_e_value,
    plan_evaluation,
    power_of,
    required_prompts,
)
from safetyvalve.stats.planning import _prompt_scores as prompt_scores
from safetyvalve.stats.planning import anytime_prompts
from safetyvalve.stats.power import score_variance, standard_error
from tests.stats.simulated import clopper_pearson


@pytest.mark.parametrize("win_rate", [0.52, 0.55, 0.6])
def test_textbook_formula(win_rate: float) -> None:
    """n = (z975 + z80)^2 s2 / d2 with s2 = w (1 - w) - ties / 4; the t quantiles add about two prompts."""
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    expected = z**2 * (win_rate * (1 - win_rate) - 0.05) / (win_rate - 0.5) ** 2
    assert required_prompts(Design(ties=0.2), win_rate).prompts == pytest.approx(expected + 2, abs=1.5)


def test_score_variance_by_enumeration() -> None:
    """Win 0.5, tie 0.2, lose 0.3."""
    values, chances = np.array([1, 0.5, 0]), np.array([0.5, 0.2, 0.3])
    mean = values @ chances
    assert score_variance(mean, 0.2) == pytest.approx(chances @ (values - mean) ** 2)


def test_design_effect_by_hand() -> None:
    """k raters on every prompt: 1 + (k - 1) agreement."""
    need = required_prompts(Design(raters=4, agreement=0.5), 0.55)
    assert need.design_effect == pytest.approx(1 + 3 * 0.5)
    assert need.verdicts == 4 * (need.prompts or 0)


@pytest.mark.parametrize("raters", [1, 3])
def test_power_by_simulation(raters: int) -> None:
    """Normal scores with prompt and annotator effects; each prompt judged by some of 20 people, each as often."""
    design = Design(
        raters=raters, ties=0.0, agreement=0.4, annotator_spread=0.0 if raters == 1 else 0.02, annotators=20
    )
    win_rate, prompts, n = 0.57, 200, 1500
    draw = np.random.default_rng(9)
    sd = math.sqrt(score_variance(win_rate, 0.0))
    p = np.repeat(np.arange(prompts), raters)
    r = np.arange(prompts * raters) % 20
    means, found = [], 0
    for _ in range(n):
        y = win_rate + sd * (
            math.sqrt(design.agreement) * draw.normal(size=prompts)[p]
            + math.sqrt(design.annotator_spread) * draw.normal(size=20)[r]
            + math.sqrt(1 - design.agreement - design.annotator_spread) * draw.normal(size=p.size)
        )
        means.append(y.mean())
        interval = clustered_mean(y, p.tolist(), crossed=r.tolist() if raters > 1 else None)
        found += not interval.low < 0.5 < interval.high
    assert np.std(means) == pytest.approx(standard_error(design, prompts, win_rate), rel=0.08)
    low, high = clopper_pearson(found, n)
    expected = power_of(design, prompts, win_rate)
    assert low - 0.04 < expected < high + 0.04


@settings(max_examples=10, deadline=None)
@given(st.floats(0.51, 0.8), st.integers(1, 4), st.floats(0, 0.3), st.floats(0, 0.9), st.floats(0, 1))
def test_need_is_the_least(win_rate: float, raters: int, ties: float, agreement: float, overlap: float) -> None:
    design = Design(raters=raters, ties=ties, agreement=agreement, overlap=overlap)
    n = required_prompts(design, win_rate).prompts
    assert n is not None
    assert power_of(design, n, win_rate) >= 0.8
    assert n <= 2 or power_of(design, n - 1, win_rate) < 0.8
    assert required_prompts(design, 1 - win_rate).prompts == n
    if n > 2:
        detectable = detectable_win_rate(design, n)
        assert detectable is not None
        assert detectable <= win_rate + 1e-6


def test_a_judge_saves_what_the_formula_says() -> None:
    """Judges without number take off the square of their correlation."""
    alone = required_prompts(Design(), 0.55).prompts
    helped = required_prompts(Design(judge_correlation=0.6, judge_prompts=10**7), 0.55).prompts
    assert alone is not None
    assert helped == pytest.approx(alone * (1 - 0.36), abs=2)


def test_too_few_people() -> None:
    need = required_prompts(Design(annotators=3, annotator_spread=0.05), 0.55)
    assert need.prompts is None
    assert need.least_annotators > 3
    enough = Design(annotators=need.least_annotators, annotator_spread=0.05)
    assert required_prompts(enough, 0.55).prompts is not None or required_prompts(enough, 0.551).prompts is not None
    fewer = Design(annotators=need.least_annotators - 1, annotator_spread=0.05)
    assert required_prompts(fewer, 0.55).prompts is None


def test_hours_and_people() -> None:
    plan = plan_evaluation(Design(raters=2), win_rate=0.6, seconds=90, extra=0.25, hours_each=1)
    verdicts = plan.need.verdicts or 0
    assert plan.judgments == math.ceil(verdicts * 1.25)
    assert plan.hours == pytest.approx((plan.judgments or 0) * 90 / 3600)
    assert plan.people == math.ceil(plan.hours or 0)
    assert plan.hours_each is not None
    assert plan.hours_each <= 1


def test_prompts_to_win_rate_and_back() -> None:
    plan = plan_evaluation(Design(), prompts=400)
    assert plan.win_rate is not None
    assert required_prompts(Design(), plan.win_rate).prompts in (400, 401)
    assert detectable_win_rate(Design(), 2) is None


def test_scores_of_prompts_have_the_moments_of_the_design() -> None:
    """Mean, and variance as in the standard error of one prompt."""
    for design in (Design(ties=0.3), Design(raters=3, agreement=0.3), Design(raters=2, overlap=0.0)):
        levels, chances = prompt_scores(design, 0.6)
        assert (chances.sum(), levels @ chances) == pytest.approx((1, 0.6))
        k = design.raters if design.overlap else 1
        expected = score_variance(0.6, design.ties) * (design.agreement + (1 - design.agreement) / k)
        assert chances @ (levels - 0.6) ** 2 == pytest.approx(expected)


def test_looking_all_the_time_costs_more() -> None:
    """By other draws than those that planned it, the sequence leaves one half in about 80% of evaluations."""
    fixed = required_prompts(Design(ties=0.0), 0.6).prompts or 0
    n = anytime_prompts(Design(ties=0.0), 0.6, fixed)
    assert n is not None
    assert 1.2 * fixed < n < 4 * fixed
    draw = np.random.default_rng(10)
    found = sum(
        any(log_e_value(x[:t], side="above") >= math.log(40) for t in range(20, n + 1, 10))
        for x in (draw.random((100, n)) < 0.6).astype(float)
    )
    low, high = clopper_pearson(found, 100)
    assert low < 0.8 < high


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: Design(ties=1), "ties is 1"),
        (lambda: Design(agreement=1.5), "agreement is 1.5"),
        (lambda: Design(agreement=0.9, annotator_spread=0.2, annotators=3), "add up to more than 1"),
        (lambda: Design(annotator_spread=0.1), "annotators is None"),
        (lambda: Design(raters=3, annotators=2), "at least the 3 raters"),
        (lambda: Design(raters=0), "raters is 0"),
        (lambda: Design(judge_correlation=1), "judge_correlation is 1"),
        (lambda: required_prompts(Design(), 0.5), "which is no difference"),
        (lambda: required_prompts(Design(ties=0.4), 0.9), "between 0.2 and 0.8"),
        (lambda: required_prompts(Design(), 0.6, power=1), "power is 1"),
        (lambda: detectable_win_rate(Design(), 1), "prompts is 1"),
        (lambda: plan_evaluation(Design()), "exactly one"),
        (lambda: plan_evaluation(Design(), prompts=10, seconds=0), "seconds is 0"),
    ],
)
def test_refusals(call: object, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        call()  # type: ignore[operator]
