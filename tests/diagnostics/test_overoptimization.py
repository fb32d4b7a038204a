"""The verdict on a run, on tables made so that the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from safetyvalve.diagnostics import compare_final, judge_run
from safetyvalve.errors import UsageError

STEPS = [0, 10, 20, 30]


def table(means: list[float], spread: float = 0.5, prompts: int = 60, seed: int = 0) -> list[list[float]]:
    """Scores with a prompt effect that is shared by the checkpoints, and noise."""
    draw = np.random.default_rng(seed)
    prompt = draw.normal(0, 2, prompts)
    return [(m + prompt + draw.normal(0, spread, prompts)).tolist() for m in means]


RISING = table([0.0, 1.0, 2.0, 3.0], seed=9)
FLAT_END = table([0.0, 3.0, 3.0, 3.0], seed=9)
FALLING_END = table([0.0, 3.0, 2.0, 1.0], seed=9)


@pytest.mark.parametrize(
    ("means", "proxy", "kind"),
    [
        ([0, 1, 2, 3], RISING, "improved"),
        ([0, 2, 2, 1], RISING, "overoptimized"),
        ([0, 1, 0, -2], RISING, "overoptimized"),
        ([0, 2, 2, 1], FLAT_END, "overoptimized"),
        ([0, 2, 2, 1], FALLING_END, "worse"),
        ([0, 0, 0, 0], RISING, "no_change"),
    ],
)
def test_kinds(means: list[float], proxy: list[list[float]], kind: str) -> None:
    assert judge_run(table(means), proxy, STEPS).kind == kind


def test_where_it_fell_and_by_how_much() -> None:
    verdict = judge_run(table([0, 2, 1.5, 1]), RISING, STEPS)
    assert (verdict.best_step, verdict.fall_from) == (10, 10)
    assert verdict.fall.estimate == pytest.approx(-1, abs=0.2)
    assert verdict.gain.estimate == pytest.approx(1, abs=0.2)


def test_pairing_removes_the_prompt_effect() -> None:
    """Prompts differ by 2, the change is 0.3: unpaired it would drown."""
    assert judge_run(table([0, 0.1, 0.2, 0.3], spread=0.3), RISING, STEPS).kind == "improved"


def test_false_alarms_stay_below_the_stated_rate() -> None:
    """No change at all: 'overoptimized' in at most 5% of 400 runs, whatever the number of checkpoints."""
    steps = list(range(8))
    rising = [table(list(map(float, steps)), seed=s) for s in range(400)]
    verdicts = [judge_run(table([0.0] * 8, seed=s), rising[s], steps).kind for s in range(400)]
    alarms = verdicts.count("overoptimized")
    assert alarms <= 20


def test_equal_scores_are_no_fall() -> None:
    assert judge_run([[1.0, 2.0], [1.0, 2.0]], [[0, 0], [1, 1]], [0, 5]).kind == "no_change"


@pytest.mark.parametrize(
    ("first", "second", "kind"), [(1.0, 0.0, "first"), (0.0, 1.0, "second"), (0.0, 0.0, "no_difference")]
)
def test_compare(first: float, second: float, kind: str) -> None:
    a, b = table([first, second])
    result = compare_final(a, b)
    assert result.kind == kind
    assert result.difference.low < result.difference.estimate < result.difference.high


def test_refusals() -> None:
    with pytest.raises(UsageError, match="at least two checkpoints by two prompts"):
        judge_run([[1.0, 2.0]], [[0.0, 0.0]], [0])
    with pytest.raises(UsageError, match=r"proxy values \(3, 60\)"):
        judge_run(table([0, 1]), table([0, 1, 2]), [0, 1])
    with pytest.raises(UsageError, match="increasing"):
        judge_run(table([0, 1]), table([0, 1]), [5, 5])
    with pytest.raises(UsageError, match="the same prompts"):
        compare_final([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="not finite"):
        compare_final([1.0, float("nan")], [1.0, 2.0])
