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


FALLING = [0.7, 0.6, 0.5, 0.4]
TURNED = [0.7, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    ("means", "loss", "kind"),
    [
        ([0, 1, 2, 3], FALLING, "improved"),
        ([0, 2, 2, 1], FALLING, "overoptimized"),
        ([0, 1, 0, -2], FALLING, "overoptimized"),
        ([0, 2, 2, 1], TURNED, "worse"),
        ([0, 0, 0, 0], FALLING, "no_change"),
    ],
)
def test_kinds(means: list[float], loss: list[float], kind: str) -> None:
    assert judge_run(table(means), loss, STEPS).kind == kind


def test_where_it_fell_and_by_how_much() -> None:
    verdict = judge_run(table([0, 2, 1.5, 1]), FALLING, STEPS)
    assert (verdict.best_step, verdict.fall_from) == (10, 10)
    assert verdict.fall.estimate == pytest.approx(-1, abs=0.2)
    assert verdict.gain.estimate == pytest.approx(1, abs=0.2)


def test_pairing_removes_the_prompt_effect() -> None:
    """Prompts differ by 2, the change is 0.3: unpaired it would drown."""
    assert judge_run(table([0, 0.1, 0.2, 0.3], spread=0.3), FALLING, STEPS).kind == "improved"


def test_false_alarms_stay_below_the_stated_rate() -> None:
    """No change at all: 'overoptimized' in at most 5% of 400 runs, whatever the number of checkpoints."""
    steps = list(range(8))
    loss = [1 / (1 + step) for step in steps]
    verdicts = [judge_run(table([0.0] * 8, seed=s), loss, steps).kind for s in range(400)]
    alarms = verdicts.count("overoptimized")
    assert alarms <= 20


def test_equal_scores_are_no_fall() -> None:
    assert judge_run([[1.0, 2.0], [1.0, 2.0]], [0.7, 0.6], [0, 5]).kind == "no_change"


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
        judge_run([[1.0, 2.0]], [0.7], [0])
    with pytest.raises(UsageError, match="3 training losses"):
        judge_run(table([0, 1]), [0, 1, 2], [0, 1])
    with pytest.raises(UsageError, match="increasing"):
        judge_run(table([0, 1]), [1, 0], [5, 5])
    with pytest.raises(UsageError, match="the same prompts"):
        compare_final([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="not finite"):
        compare_final([1.0, float("nan")], [1.0, 2.0])
