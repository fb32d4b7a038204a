"""Logistic fit and length control: against statsmodels, by closed form, by symmetry, and separated data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats import length_controlled_win_rate, win_rate
from safetyvalve.stats.logistic import logistic_fit, separated


def data(seed: int = 0, n: int = 400, slope: float = 1.0) -> tuple[np.ndarray, ...]:
    """Scores with ties, lengths and four verdicts a prompt; the first model writes more and is liked for it."""
    draw = np.random.default_rng(seed)
    a, b = draw.integers(50, 250, n), draw.integers(20, 200, n)
    d = (a - b) / (a - b).std()
    y = (draw.random(n) < expit(-0.3 + slope * np.tanh(d))).astype(float)
    y[draw.random(n) < 0.1] = 0.5
    return y, a.astype(float), b.astype(float), np.repeat(np.arange(n // 4), 4)


def test_against_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    y, a, b, p = data()
    x = np.column_stack([np.ones(len(y)), np.tanh((a - b) / (a - b).std())])
    peer = api.GLM(y, x, family=api.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": p, "use_correction": False}, tol=1e-12
    )
    fit = logistic_fit(x, y, p.tolist())
    assert fit.coefficients == pytest.approx(peer.params, abs=1e-7)
    assert fit.covariance == pytest.approx(np.asarray(peer.cov_params()) * 100 / 99, rel=1e-6)
    found = length_controlled_win_rate(y, a, b, p.tolist())
    assert found.interval.estimate == pytest.approx(expit(peer.params[0]))
    assert found.slope.estimate == pytest.approx(peer.params[1], abs=1e-7)


def test_intercept_alone_is_the_log_odds_of_the_mean() -> None:
    """Its standard error by the delta method is that of the clustered mean over w (1 - w)."""
    y, _, _, p = data()
    fit = logistic_fit(np.ones((len(y), 1)), y, p.tolist())
    w = win_rate(y, p.tolist()).interval
    assert fit.coefficients[0] == pytest.approx(logit(y.mean()))
    assert np.sqrt(fit.covariance[0, 0]) == pytest.approx(w.standard_error / (w.estimate * (1 - w.estimate)))


def test_removes_what_length_won() -> None:
    """Liked for length only: the raw rate is far above one half, the controlled one covers sigmoid(-0.3) = 0.426."""
    y, a, b, p = data(n=4000, slope=2.0)
    raw, found = win_rate(y, p.tolist()), length_controlled_win_rate(y, a, b, p.tolist())
    assert raw.interval.low > 0.5
    assert found.interval.low < expit(-0.3) * 0.9 + 0.05 < found.interval.high
    assert found.interval.high < 0.5
    assert not found.extrapolated


def test_other_side_gives_the_rest() -> None:
    y, a, b, p = data()
    one = length_controlled_win_rate(y, a, b, p.tolist())
    other = length_controlled_win_rate(1 - y, b, a, p.tolist())
    assert other.interval[:3] == pytest.approx((1 - one.interval[0], 1 - one.interval[2], 1 - one.interval[1]))
    assert other.slope.estimate == pytest.approx(one.slope.estimate)
    # A unit of length does not matter either.
    assert length_controlled_win_rate(y, a * 3, b * 3, p.tolist()).interval == pytest.approx(one.interval)


def test_says_when_it_extrapolates() -> None:
    y, a, b, p = data()
    assert length_controlled_win_rate(y, a + 150, b, p.tolist()).extrapolated
    with pytest.raises(DataError, match="all far from zero"):
        length_controlled_win_rate(y, a + 1000, b, p.tolist())


@pytest.mark.parametrize("seed", range(20))
def test_separation_agrees_with_trying_all_directions(seed: int) -> None:
    """Two columns: a direction that never falls, if there is one, is found among 3,600 angles up to their width."""
    draw = np.random.default_rng(seed)
    x = np.column_stack([np.ones(8), draw.normal(size=8)])
    y = (draw.random(8) < 0.5).astype(float) if seed % 2 else (x[:, 1] > 0).astype(float)
    signed = x * np.where(y == 1, 1, -1)[:, None]
    angles = np.linspace(0, 2 * np.pi, 3600)
    along = signed @ np.array([np.cos(angles), np.sin(angles)])
    assert separated(x, y) == bool((along.min(0) >= 0).any())


def test_a_tie_pins_what_separation_may_use() -> None:
    x = np.column_stack([np.ones(4), [1.0, 2, -1, -2]])
    assert separated(x, np.array([1.0, 1, 0, 0]))
    assert separated(np.vstack([x, [1, 0]]), np.array([1.0, 1, 0, 0, 0.5]))
    assert not separated(np.vstack([x, [1, 1.5]]), np.array([1.0, 1, 0, 0, 0.5]))


def test_refusals() -> None:
    y, a, b, p = data(n=40)
    with pytest.raises(DataError, match="all length differences are 0"):
        length_controlled_win_rate(y, a, a, p.tolist())
    with pytest.raises(DataError, match="only one cluster"):
        length_controlled_win_rate(y, a, b, ["p"] * 40)
    with pytest.raises(DataError, match="no finite estimate"):
        length_controlled_win_rate(np.ones(40), a, b, p.tolist())
    with pytest.raises(UsageError, match=r"length_a\[0\] is -1"):
        length_controlled_win_rate(y, a - a - 1, b, p.tolist())
    with pytest.raises(UsageError, match="40 scores, 40 and 39 lengths"):
        length_controlled_win_rate(y, a, b[1:], p.tolist())
    with pytest.raises(DataError, match="depend on one another"):
        logistic_fit(np.ones((40, 2)), y, p.tolist())
