"""PPI++: another library's numbers, by hand, coverage where the judge alone fails, and chances of being drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats import mean_interval, ppi_mean
from tests.stats.simulated import clopper_pearson

Y = [1, 0, 0.5, 1, 1, 0, 0, 1, 0.5, 1, 0, 1]
F = [1, 0, 0, 1, 0.5, 0, 1, 1, 0.5, 1, 0, 0.5]
OTHER = [1, 1, 0, 0.5, 1, 0, 0, 1, 1, 1, 0.5, 0, 0, 1, 1, 0.5, 1, 0, 1, 1]


def test_against_ppi_python() -> None:
    """ppi-python 0.2.3: ppi_mean_pointestimate tuned, with lam=0.7, and with lam=0.7 and weights 1..12."""
    found = ppi_mean(Y, F, OTHER)
    assert found.interval.estimate == pytest.approx(0.61488577, abs=1e-7)
    fixed = ppi_mean(Y, F, OTHER, tuning=0.7)
    assert fixed.interval.estimate == pytest.approx(0.64166667, abs=1e-8)
    weighted = ppi_mean(Y, F, OTHER, tuning=0.7, weights=list(range(1, 13)))
    assert weighted.interval.estimate == pytest.approx(0.64134615, abs=1e-8)
    # Its normal interval 0.4015..0.8818 has variances over n, not n - 1.
    error = (0.88181595 - 0.40151738) / 2 / 1.959964
    rest, rest_n = np.var(np.array(Y) - 0.7 * np.array(F)), 12
    other, other_n = np.var(0.7 * np.array(OTHER)), 20
    assert error == pytest.approx(math.sqrt(rest / rest_n + other / other_n), rel=1e-6)
    assert fixed.interval.standard_error == pytest.approx(math.sqrt(rest / (rest_n - 1) + other / (other_n - 1)))


def test_without_the_judge_it_is_students_interval() -> None:
    assert ppi_mean(Y, F, OTHER, tuning=0).interval == pytest.approx(mean_interval(Y))
    assert ppi_mean(Y, F, OTHER).human_only == pytest.approx(mean_interval(Y))
    constant = ppi_mean(Y, [1.0] * 12, [1.0] * 20)
    assert (constant.tuning, constant.saving) == (0, pytest.approx(0))


def test_a_perfect_judge_makes_all_units_human() -> None:
    found = ppi_mean(Y, Y, OTHER)
    assert found.tuning > 0.55
    assert found.saving == pytest.approx(20 / 32, abs=0.08)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=20), st.floats(-3, 3))
def test_a_shifted_judge_changes_nothing(rows: list[tuple[float, float]], shift: float) -> None:
    """A judge that is kinder by a constant says the same."""
    y, f = [a for a, _ in rows], [b for _, b in rows]
    one = ppi_mean(y, f, OTHER, tuning=0.5)
    two = ppi_mean(y, [v + shift for v in f], [v + shift for v in OTHER], tuning=0.5)
    assert two.interval == pytest.approx(one.interval, abs=1e-9)


def test_coverage_and_width_where_the_judge_is_biased() -> None:
    """100 people's verdicts and 2,000 of a judge that errs towards one model: PPI++ covers and is narrower."""
    draw = np.random.default_rng(7)
    n = 1000
    held = alone = 0
    widths = []
    for _ in range(n):
        truth = (draw.random(2100) < 0.55).astype(float)
        judge = np.where(draw.random(2100) < 0.2, 1.0, truth)
        found = ppi_mean(truth[:100], judge[:100], judge[100:])
        held += found.interval.low < 0.55 < found.interval.high
        alone += found.judge_only.low < 0.55 < found.judge_only.high
        widths.append(found.interval.standard_error / found.human_only.standard_error)
    low, high = clopper_pearson(held, n)
    assert high > 0.95
    assert low > 0.9
    assert alone == 0
    assert np.mean(widths) < 0.75


def test_weights_undo_an_unequal_draw() -> None:
    """Prompts on which model a wins are drawn three times as often; one over the chance puts that right."""
    draw = np.random.default_rng(8)
    n = 500
    held = wrong = 0
    for _ in range(n):
        truth = (draw.random(3000) < 0.5).astype(float)
        judge = np.where(draw.random(3000) < 0.2, 1 - truth, truth)
        chance = np.where(truth == 1, 0.09, 0.03)
        seen = draw.random(3000) < chance
        # PPI++ takes the judge's other units as a sample of all; here: all units.
        found = ppi_mean(truth[seen], judge[seen], judge, weights=1 / chance[seen])
        plain = ppi_mean(truth[seen], judge[seen], judge)
        held += found.interval.low < 0.5 < found.interval.high
        wrong += plain.interval.low < 0.5 < plain.interval.high
    assert clopper_pearson(held, n)[1] > 0.94
    assert clopper_pearson(wrong, n)[1] < 0.5


def test_refusals() -> None:
    with pytest.raises(DataError, match="2 units with human verdicts and 20 without"):
        ppi_mean(Y[:2], F[:2], OTHER)
    with pytest.raises(UsageError, match="12, 11 and 12 values"):
        ppi_mean(Y, F[1:], OTHER)
    with pytest.raises(UsageError, match="tuning is 2"):
        ppi_mean(Y, F, OTHER, tuning=2)
    with pytest.raises(UsageError, match="a weight is 0"):
        ppi_mean(Y, F, OTHER, weights=[0] + [1] * 11)
    with pytest.raises(UsageError, match=r"human\[0\] is nan"):
        ppi_mean([math.nan, *Y[1:]], F, OTHER)
