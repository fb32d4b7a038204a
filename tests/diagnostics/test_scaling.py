"""The two forms of the literature, against the exact cases, and what is said of their peak."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from safetyvalve.diagnostics import bootstrap_fit, fit_form
from safetyvalve.errors import UsageError

NAMES = {"bon": "best_of_n", "rl": "optimised"}


@pytest.mark.parametrize("case", ["bon", "rl"])
def test_exact_cases(oracle: dict[str, Any], case: str) -> None:
    gao = oracle["gao_fits"]
    d, y = np.array(gao["d"]), np.array(gao[case]["y"])
    assert fit_form(NAMES[case], d, y) == pytest.approx(gao[case]["fit_clean"], abs=1e-12)
    assert fit_form(NAMES[case], d, y + gao["noise"]) == pytest.approx(gao[case]["fit_noisy"], abs=1e-12)
    assert fit_form(NAMES[case], [0.0, *d], [7.0, *y]) == pytest.approx(gao[case]["fit_clean"], abs=1e-12)


@pytest.mark.parametrize("case", ["bon", "rl"])
def test_the_peak_of_exact_cases(oracle: dict[str, Any], case: str) -> None:
    gao = oracle["gao_fits"]
    kl = np.tile(np.square(gao["d"]), (12, 1))
    gains = np.array(gao[case]["y"]) + np.linspace(-0.02, 0.02, 12)[:, None]
    fit = bootstrap_fit(NAMES[case], kl, gains, replicates=500)
    assert fit.peak.kind == "within" and fit.peak.share_within == 1
    assert fit.peak.distance.estimate == pytest.approx(gao[case]["d_star"], abs=1e-9)
    assert fit.peak.height.estimate == pytest.approx(gao[case]["R_star"], abs=1e-9)
    assert fit.peak.distance.low < gao[case]["d_star"] < fit.peak.distance.high
    assert fit(gao[case]["d_zero"]) == pytest.approx(0, abs=1e-8)
    assert fit.residual == pytest.approx(0, abs=1e-9)


def test_weights_count_as_repetitions() -> None:
    d, y = [0.5, 1.0, 2.0, 3.0], [0.4, 0.9, 1.1, 0.7]
    repeated = fit_form("best_of_n", [*d, d[1], d[1]], [*y, y[1], y[1]])
    assert fit_form("best_of_n", d, y, [1, 3, 1, 1]) == pytest.approx(repeated, abs=1e-12)


def test_a_curve_that_still_rises_has_no_peak_within_the_range() -> None:
    d = np.array([0.5, 1.0, 1.5, 2.0])
    kl, gains = np.tile(d**2, (20, 1)), np.tile(0.9 * d, (20, 1)) + np.linspace(-0.1, 0.1, 20)[:, None] * d
    peak = bootstrap_fit("best_of_n", kl, gains, weights="equal").peak
    assert peak.kind == "none" and peak.distance is None and peak.share_within < 0.05


def test_a_peak_that_the_prompts_do_not_settle_is_unsure() -> None:
    generator = np.random.default_rng(0)
    d = np.array([0.5, 1.0, 1.5, 2.0])
    kl = np.tile(d**2, (24, 1))
    gains = d * (1 - 0.27 * d) + generator.normal(0, 0.6, (24, 1)) * d**2
    peak = bootstrap_fit("best_of_n", kl, gains, seed=1).peak
    assert peak.kind == "unsure" and 0.1 < peak.share_within < 0.98
    assert peak.distance.high > 2


def test_intervals_cover() -> None:
    """200 simulated runs with a known curve and prompts that differ: the intervals hold alpha about 95% of the time."""
    d = np.array([0.0, 0.6, 1.2, 1.8, 2.4])
    hits = 0
    for run in range(200):
        generator = np.random.default_rng(run)
        slope = generator.normal(1.0, 0.4, (40, 1))
        gains = slope * d - 0.25 * d**2 + generator.normal(0, 0.2, (40, 5)) * (d > 0)
        alpha = bootstrap_fit("best_of_n", np.tile(d**2, (40, 1)), gains, replicates=300, seed=run).alpha
        hits += alpha.low <= 1.0 <= alpha.high
    assert 0.88 * 200 <= hits <= 0.99 * 200


@pytest.mark.parametrize(
    ("d", "y", "w", "fragment"),
    [
        ([1.0, 2.0], [1.0, 2.0], None, "2 distances above 0; at least 3"),
        ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0], None, "not finite"),
        ([1.0, 2.0, -1.0], [1.0, 2.0, 3.0], None, "below 0"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], None, "one of each a point"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1, 1, 0], "a weight is not"),
    ],
)
def test_refusals(d: Any, y: Any, w: Any, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        fit_form("best_of_n", d, y, w)
