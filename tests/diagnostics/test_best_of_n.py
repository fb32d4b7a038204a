"""Best-of-n from a pool: exact cases, ties, unbiasedness, and the KL bound."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from safetyvalve.diagnostics import best_of_n, best_of_n_kl, best_of_n_values
from safetyvalve.errors import UsageError


def test_exact_cases(oracle: dict[str, Any]) -> None:
    case = oracle["best_of_n"]
    for n, wanted in case["estimate"].items():
        assert best_of_n_values(case["proxy"], case["gold"], int(n)) == pytest.approx(wanted["gold"], abs=1e-14)
        assert best_of_n_values(case["proxy"], case["proxy"], int(n)) == pytest.approx(wanted["proxy"], abs=1e-14)
    for n, kl in case["kl_formula"].items():
        assert best_of_n_kl(int(n)) == pytest.approx(kl, abs=1e-12)
    assert all(best_of_n_kl(c["n"]) >= c["kl"] for c in case["exact_discrete"])


def test_it_is_the_mean_over_all_subsets_with_ties_at_random() -> None:
    proxy, gold = [1.0, 2.0, 2.0, 0.5, 2.0], [5.0, 1.0, 3.0, 2.0, 10.0]
    for n in range(1, 6):
        means = []
        for chosen in itertools.combinations(range(5), n):
            top = max(proxy[i] for i in chosen)
            means.append(np.mean([gold[i] for i in chosen if proxy[i] == top]))
        assert best_of_n_values(proxy, gold, n) == pytest.approx(np.mean(means), abs=1e-12)


def test_a_curve_speaks_of_prompts() -> None:
    generator = np.random.default_rng(0)
    proxy = generator.normal(size=(30, 16)) + generator.normal(0, 3, (30, 1))
    curve = best_of_n(proxy, -proxy)
    assert [point.n for point in curve] == [1, 2, 3, 4, 6, 8, 12, 16]
    assert curve[0].proxy.estimate == pytest.approx(proxy.mean())
    assert curve[-1].proxy.estimate == pytest.approx(proxy.max(1).mean())
    assert curve[-1].score.estimate == pytest.approx(-curve[-1].proxy.estimate)
    assert all(point.proxy.n == 30 for point in curve)
    # 480 samples are no 480 units: the spread between prompts is in the interval.
    assert curve[0].proxy.standard_error == pytest.approx(proxy.mean(1).std(ddof=1) / 30**0.5)


@pytest.mark.parametrize(
    ("proxy", "gold", "n", "fragment"),
    [
        ([1.0, 2.0], [1.0], 1, "one of each a sample"),
        ([1.0, float("nan")], [1.0, 2.0], 1, "leave unscored samples out"),
        ([1.0, 2.0], [1.0, 2.0], 3, "n is 3; from 1 to the 2"),
        ([1.0, 2.0], [1.0, 2.0], 0, "n is 0"),
    ],
)
def test_refusals(proxy: Any, gold: Any, n: int, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        best_of_n_values(proxy, gold, n)
