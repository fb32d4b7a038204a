"""Bradley-Terry: closed form, another library, another optimiser, the sandwich, and graphs without an answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats import bradley_terry, one_sided_models
from safetyvalve.stats.logistic import logistic_fit
from tests.stats.simulated import clopper_pearson, verdicts

STRENGTHS = {"w": 0.8, "x": 0.2, "y": -0.1, "z": -0.9}


def table(seed: int = 0, prompts: int = 40) -> tuple[list[str], list[str], list[float], list[str]]:
    rows = verdicts(STRENGTHS, prompts, seed=seed)
    return (
        [v.model_a for v in rows],
        [v.model_b for v in rows],
        [v.score or 0.0 for v in rows],
        [v.prompt_id for v in rows],
    )


def test_two_models_in_closed_form() -> None:
    ranking = bradley_terry(["x"] * 4, ["y"] * 4, [1, 1, 0.5, 0], list("pqrs"))
    first, second = ranking.models
    assert (first.model, second.model) == ("x", "y")
    assert first.strength.estimate - second.strength.estimate == pytest.approx(logit(2.5 / 4))
    assert first.elo - second.elo == pytest.approx(400 * np.log10(2.5 / 1.5))


def test_against_evalica() -> None:
    evalica = pytest.importorskip("evalica")
    first, second, scores, prompts = table()
    words = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    peer = evalica.bradley_terry(first, second, [words[s] for s in scores], tolerance=1e-13, limit=100_000)
    expected = np.log(peer.scores)
    ranking = bradley_terry(first, second, scores, prompts)
    for m in ranking.models:
        assert m.strength.estimate == pytest.approx(expected[m.model] - expected.mean(), abs=1e-6)


def test_against_a_plain_optimiser() -> None:
    first, second, scores, prompts = table(seed=5)
    names = sorted(STRENGTHS)
    i, j = (np.array([names.index(m) for m in side]) for side in (first, second))
    y = np.array(scores)

    def loss(s: np.ndarray) -> float:
        d = s[i] - s[j]
        return float(-(y * log_expit(d) + (1 - y) * log_expit(-d)).sum() + s.sum() ** 2)

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    found = {m.model: m.strength.estimate for m in bradley_terry(first, second, scores, prompts).models}
    assert [found[n] for n in names] == pytest.approx((best - best.mean()).tolist(), abs=1e-4)


def test_bootstrap_agrees_with_the_sandwich() -> None:
    """Spread of the draws against the clustered covariance of the same model as a logistic regression."""
    first, second, scores, prompts = table(prompts=150)
    names = sorted(STRENGTHS)
    design = np.array([[(n == a) - (n == b) for n in names[1:]] for a, b in zip(first, second, strict=True)], float)
    fit = logistic_fit(design, scores, prompts)
    # Strengths against the average are a linear map of strengths against the first model.
    shift = np.vstack([np.zeros(3), np.eye(3)]) - 1 / 4
    errors = np.sqrt(np.diag(shift @ fit.covariance @ shift.T))
    found = {m.model: m.strength for m in bradley_terry(first, second, scores, prompts, replicates=3000).models}
    assert [found[n].standard_error for n in names] == pytest.approx(errors.tolist(), rel=0.08)


@pytest.mark.slow
def test_coverage() -> None:
    """90% intervals of four models, 60 prompts; ties pull models together, so the truth is what very many show."""
    first, second, scores, prompts = table(seed=99, prompts=4000)
    truth = {m.model: m.strength.estimate for m in bradley_terry(first, second, scores, prompts, replicates=100).models}
    n = held = 0
    for seed in range(120):
        ranking = bradley_terry(*table(seed, prompts=60), confidence=0.9, replicates=200)
        for m in ranking.models:
            n += 1
            held += m.strength.low < truth[m.model] < m.strength.high
    assert clopper_pearson(held, n)[1] > 0.88


def test_ranks() -> None:
    ranking = bradley_terry(*table(prompts=300))
    assert [m.model for m in ranking.models] == ["w", "x", "y", "z"]
    assert [(m.best_rank, m.worst_rank) for m in ranking.models] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert {(m.best_rank, m.worst_rank) for m in bradley_terry(*table(prompts=3)).models} != {(1, 1)}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_sides_and_order_do_not_matter(seed: int) -> None:
    first, second, scores, prompts = table(seed=seed, prompts=15)
    one = bradley_terry(first, second, scores, prompts, prior=0.5, replicates=100)
    lost = [1 - s for s in scores]
    two = bradley_terry(second[::-1], first[::-1], lost[::-1], prompts[::-1], prior=0.5, replicates=100)
    strengths = {m.model: m.strength.estimate for m in two.models}
    assert all(m.strength.estimate == pytest.approx(strengths[m.model], abs=1e-9) for m in one.models)


def test_disconnected_models_are_named() -> None:
    with pytest.raises(DataError, match=r"no comparisons connect these groups: a, b \| c, d"):
        bradley_terry(["a", "b", "c", "d"], ["b", "a", "d", "c"], [1, 1, 1, 1], list("pqrs"))


def test_a_model_that_never_lost() -> None:
    """Without a prior there is no answer, and that is said; with one the order holds and draws are counted."""
    first, second, scores = ["t", "t", "x", "y", "x"], ["x", "y", "y", "x", "y"], [1, 1, 1, 1, 0.5]
    with pytest.raises(DataError, match="t never lost to the other models"):
        bradley_terry(first, second, scores, list("pqrst"))
    assert one_sided_models(first, second, scores) == [["t"], ["x", "y"]]
    ranking = bradley_terry(first, second, scores, list("pqrst"), prior=0.5)
    assert ranking.models[0].model == "t"
    assert np.isfinite([m.strength.high for m in ranking.models]).all()


def test_a_draw_that_only_won_is_survived() -> None:
    """Three models, one loss of the best: many draws leave that loss out."""
    first, second = ["t", "t", "t", "x", "y"], ["x", "y", "x", "y", "x"]
    ranking = bradley_terry(first, second, [1, 1, 0, 1, 1], list("pqrst"), replicates=500)
    assert 0 < ranking.one_sided_draws < 500
    assert np.isfinite([m.strength.low for m in ranking.models]).all()


def test_prior_is_half_a_verdict_each_way() -> None:
    """One win and a prior of 0.5 are 1.25 wins of 1.5."""
    best, worst = bradley_terry(["x", "x"], ["y", "y"], [1, 1], ["p", "q"], prior=0.5).models
    assert expit(best.strength.estimate - worst.strength.estimate) == pytest.approx(2.25 / 2.5)


def test_one_prompt_has_no_interval() -> None:
    best = bradley_terry(["x", "x"], ["y", "y"], [1, 0], ["p", "p"]).models[0]
    assert (best.strength.low, best.strength.high, best.worst_rank) == (-np.inf, np.inf, 2)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="'x' is compared with itself"):
        bradley_terry(["x"], ["x"], [1], ["p"])
    with pytest.raises(UsageError, match="prior is -1"):
        bradley_terry(["x"], ["y"], [1], ["p"], prior=-1)
    with pytest.raises(UsageError, match="replicates is 5"):
        bradley_terry(["x", "x"], ["y", "y"], [1, 0], ["p", "q"], replicates=5)
    with pytest.raises(UsageError, match="2 and 1 models and 1 scores"):
        bradley_terry(["x", "x"], ["y"], [1], ["p"])
