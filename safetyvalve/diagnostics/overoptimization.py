"""Did a run overoptimize? Answered from an independent score, never from the learned reward alone.

Overoptimization means that training went on improving its own objective while what it stands for got worse. What it
stands for is scored independently (a rubric, people, a gold reward); the objective's side is the training loss. Two
tempting substitutes are not used. The implicit reward of the policy's own answers grows with the distance from the
reference whatever was learned: its gain over the reference's answers is beta times the two KL divergences between them.
And a falling log-probability of the chosen responses is a symptom that occurs in healthy runs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from safetyvalve.errors import UsageError
from safetyvalve.stats import Interval, mean_interval

__all__ = ["Comparison", "RunVerdict", "compare_final", "judge_run"]


class RunVerdict(NamedTuple):
    """What a run's scores show.

    ``kind`` is ``overoptimized`` (the score fell significantly below an earlier checkpoint while the training loss
    went on falling), ``worse`` (the score fell, and the training loss did not go down), ``improved`` (it ends above
    the start, and no fall is seen) or ``no_change`` (neither is seen).
    """

    kind: Literal["overoptimized", "worse", "improved", "no_change"]
    gain: Interval
    """Final score minus the first checkpoint's, paired by prompt."""
    best_step: int
    """Step of the highest mean score."""
    fall: Interval
    """Final score minus the score at ``fall_from``, at the confidence that allows for having looked at all of them."""
    fall_from: int
    """The earlier step against which the final score stands worst, in standard errors."""


class Comparison(NamedTuple):
    """Final scores of two runs on the same prompts."""

    kind: Literal["first", "second", "no_difference"]
    """Which run ends significantly higher."""
    difference: Interval
    """First minus second, paired by prompt."""


def judge_run(
    scores: Sequence[Sequence[float]],
    training_loss: Sequence[float],
    steps: Sequence[int],
    *,
    confidence: float = 0.95,
) -> RunVerdict:
    """Judge one run.

    The final score is compared with every earlier checkpoint's, by paired t intervals at a confidence of
    ``1 - (1 - confidence) / m`` for the m comparisons (Bonferroni), so that looking at many checkpoints does not by
    itself find a fall.

    Args:
        scores: [checkpoint][prompt] independent scores, the mean over a prompt's samples; higher is better.
        training_loss: [checkpoint] mean training loss of the steps that lead to it; for the first checkpoint, that of
            the first step, which is the untrained model's.
        steps: [checkpoint] optimizer steps, increasing; the first is the model before training.
        confidence: of the whole verdict.

    Raises:
        UsageError: fewer than two checkpoints or prompts, or lengths that differ.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 2:
        raise UsageError(
            f"scores have shape {table.shape}; at least two checkpoints by two prompts are needed to see a change. "
            "Evaluate more often, or sample more prompts."
        )
    if len(training_loss) != len(table) or len(steps) != len(table) or list(steps) != sorted(set(steps)):
        raise UsageError(
            f"there are {len(table)} checkpoints, {len(training_loss)} training losses and the steps {list(steps)}; "
            "they must be as many, and the steps increasing."
        )
    final, earlier = table[-1], table[:-1]
    each = 1 - (1 - confidence) / len(earlier)
    falls = [mean_interval(final - row, confidence=each) for row in earlier]
    # The most significant fall counts, not the largest: a large difference may be noise.
    worst = int(np.argmin([f.estimate / f.standard_error if f.standard_error else _sign(f.estimate) for f in falls]))
    gain = mean_interval(final - table[0], confidence=confidence)
    if falls[worst].high < 0:
        kind: Literal["overoptimized", "worse", "improved", "no_change"] = (
            "overoptimized" if training_loss[-1] < training_loss[worst] else "worse"
        )
    else:
        kind = "improved" if gain.low > 0 else "no_change"
    return RunVerdict(kind, gain, int(steps[int(table.mean(1).argmax())]), falls[worst], int(steps[worst]))


def compare_final(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Comparison:
    """Compare the final scores of two runs, [prompt] each, on the same prompts in the same order.

    Raises:
        UsageError: lengths that differ, or fewer than two prompts.
    """
    if len(first) != len(second) or len(first) < 2:
        raise UsageError(
            f"there are {len(first)} and {len(second)} scores; both runs need the same prompts, at least two."
        )
    difference = mean_interval(np.subtract(first, second).tolist(), confidence=confidence)
    kind: Literal["first", "second", "no_difference"] = "no_difference"
    if difference.low > 0:
        kind = "first"
    elif difference.high < 0:
        kind = "second"
    return Comparison(kind, difference)


def _sign(value: float) -> float:
    return float(np.sign(value)) * np.inf if value else 0.0
