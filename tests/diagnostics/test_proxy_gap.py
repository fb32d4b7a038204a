"""The gap between proxy and another score, and its regression: values of statsmodels, coverage, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from safetyvalve.diagnostics import gap_regression, standardised_gap
from safetyvalve.errors import UsageError


def test_the_gap_is_in_standard_deviations_of_the_reference() -> None:
    proxy, score = [0.0, 2.0, 10.0], [5.0, 6.0, 4.0]
    gap = standardised_gap(proxy, score, [True, True, False])
    # Proxy: mean 1, deviation sqrt(2). Score: mean 5.5, deviation sqrt(1/2).
    assert gap == pytest.approx([(-1 + 1) / 2**0.5, 0.0, 9 / 2**0.5 + 1.5 * 2**0.5])


def test_equal_to_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 6)
    x = generator.normal(size=(180, 2))
    y = 0.5 + x @ [0.8, -0.3] + generator.normal(size=30)[groups] + generator.normal(size=180)
    found = gap_regression(y, {"a": x[:, 0], "b": 5 + 7 * x[:, 1]}, groups)
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    model = api.OLS(y, api.add_constant(z))
    wanted = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True)
    assert [found.intercept.estimate, *(t.coefficient.estimate for t in found.terms)] == pytest.approx(wanted.params)
    # statsmodels multiplies by (n - 1) / (n - k) as well.
    scale = ((180 - 1) / (180 - 3)) ** 0.5
    assert [t.coefficient.standard_error * scale for t in found.terms] == pytest.approx(wanted.bse[1:])
    assert found.r_squared == pytest.approx(wanted.rsquared)
    assert found.terms[1].deviation == pytest.approx(7 * x[:, 1].std(ddof=1))


def test_intervals_are_by_prompt() -> None:
    """With effects of prompts on both sides, taking samples as units would cover far too rarely."""
    hits = naive = 0
    for run in range(300):
        generator = np.random.default_rng(run)
        groups = np.repeat(np.arange(40), 5)
        x, y = (generator.normal(size=40)[groups] + 0.3 * generator.normal(size=200) for _ in range(2))
        term = gap_regression(y, {"x": x}, groups).terms[0].coefficient
        hits += term.low <= 0 <= term.high
        alone = gap_regression(y, {"x": x}, range(200)).terms[0].coefficient
        naive += alone.low <= 0 <= alone.high
    assert 0.90 * 300 <= hits <= 0.99 * 300
    assert naive < 0.75 * 300


def test_what_cannot_enter_is_left_out_with_its_reason() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=60)
    found = gap_regression(a, {"a": a, "same": 3 * a - 1, "still": [2.0] * 60}, list(range(30)) * 2)
    assert [t.name for t in found.terms] == ["a"]
    assert found.left_out == {"same": "collinear", "still": "constant"}
    assert found.r_squared == pytest.approx(1)


def test_entangled_covariates_are_cautioned() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=400)
    found = gap_regression(a, {"a": a, "b": a + 0.1 * generator.normal(size=400)}, list(range(100)) * 4)
    assert found.cautions == ("entangled",)
    assert found.terms[0].inflation > 10
    assert "few_prompts" in gap_regression(a[:40], {"a": a[40:80]}, list(range(10)) * 4).cautions


@pytest.mark.parametrize(
    ("proxy", "score", "marks", "fragment"),
    [
        ([1.0, np.nan], [1.0, 2.0], None, r"proxy\[1\] is nan"),
        ([1.0, 2.0], [1.0], None, "one of each a sample"),
        ([1.0, 1.0, 3.0], [1.0, 2.0, 3.0], [True, True, False], "the proxy is 1 for every answer"),
        ([1.0, 2.0], [1.0, 2.0], [True, False], "1 samples are of the reference"),
    ],
)
def test_refusals(proxy: list[float], score: list[float], marks: list[bool] | None, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        standardised_gap(proxy, score, marks)
