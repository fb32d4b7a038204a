"""The penalised Bradley-Terry fit against its own condition of optimality and a case that can be solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.linear_reward import RIDGES, choose_ridge, fit_linear_reward, preference_loss


def test_one_comparison_by_hand() -> None:
    """One difference of 1: ridge w = sigmoid(-w)."""
    w = fit_linear_reward(np.ones((1, 1)), ridge=0.1)
    assert w[0] == pytest.approx(brentq(lambda v: 0.1 * v - expit(-v), 0, 10), abs=1e-5)


def test_the_gradient_is_zero() -> None:
    d = np.random.default_rng(0).normal(size=(200, 5)) + 0.3
    w = fit_linear_reward(d, ridge=0.02)
    assert np.abs(0.02 * w - (d * expit(-(d @ w))[:, None]).mean(0)).max() < 1e-4
    assert fit_linear_reward(d, ridge=0.02, start=np.ones(5)) == pytest.approx(w, abs=1e-3)


def test_loss_at_chance() -> None:
    assert preference_loss(np.zeros(2)) == pytest.approx(math.log(2))


def test_ridge_follows_the_noise() -> None:
    """With labels that are coins the smoothest fit is chosen, with clean ones the sharpest."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(120, 20)) / np.sqrt(20)
    coins = x * generator.choice([-1, 1], 120)[:, None]
    clean = x * np.sign(x[:, :1])
    assert choose_ridge(coins, np.arange(120)) == max(RIDGES)
    assert choose_ridge(clean, np.arange(120)) == min(RIDGES)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="ridge is 0; a number above 0"):
        fit_linear_reward(np.ones((1, 1)), ridge=0)
    with pytest.raises(DataError, match="only one conversation"):
        choose_ridge(np.ones((4, 1)), np.zeros(4, dtype=int))
