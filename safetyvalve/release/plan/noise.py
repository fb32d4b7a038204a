"""What label noise allows: the best accuracy that anything could reach on labels like these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from safetyvalve.data.quality import LabelNoise
from safetyvalve.errors import UsageError
from safetyvalve.stats import Interval

__all__ = [
    "SCENARIOS",
    "NoisePlan",
    "NoiseScenario",
    "accuracy_ceiling",
    "check_label_error",
    "plan_noise",
    "repeats_needed",
]

SCENARIOS = (0.05, 0.1, 0.2, 0.3)
"""Error rates that are shown where none can be estimated and none is given: no estimates, and not averaged."""
MARGIN = 0.05


class NoiseScenario(NamedTuple):
    """What an assumed error rate would mean."""

    error_rate: float
    """Chance that a label is the wrong way round, equal and independent for all."""
    ceiling: float
    """1 - error_rate: accuracy on such labels of one who knows the truth."""
    probe_on_truth: float | None
    """Accuracy of the probe on the labels without errors, (a - e) / (1 - 2 e); None without a probe, and where it would
    exceed 1: errors as frequent as that contradict the accuracy measured."""


class NoisePlan(NamedTuple):
    """Label noise, estimated from repeated comparisons or assumed."""

    estimated: LabelNoise | None
    """None where nothing was compared twice: it cannot be estimated."""
    ceiling: tuple[float, float] | None
    """Between what the best possible accuracy on these labels lies, at the disagreement observed."""
    ceiling_widest: tuple[float, float] | None
    """The same over the disagreement's 95% interval."""
    scenarios: tuple[NoiseScenario, ...]
    assumed: bool
    """Whether the scenario is one that the user gave."""
    repeats: int
    """Pairs of responses to have judged twice, so that their disagreement is known to 5 points (95%)."""


def accuracy_ceiling(disagreement: float) -> tuple[float, float]:
    """Least and greatest value of the best possible accuracy, when two labels of a pair disagree with probability d.

    With p the chance that a pair's first response wins, d = E[2 p (1 - p)] and the best accuracy is
    E[max(p, 1 - p)] = E[(1 + sqrt(1 - 2 v)) / 2] with v = 2 p (1 - p). That is concave in v, so it is largest with all
    pairs alike, (1 + sqrt(1 - 2 d)) / 2, and smallest with pairs that are either certain or coin flips, 1 - d.

    Args:
        disagreement: in [0, 1]; above one half, which independent labels cannot exceed, one half is taken.
    """
    d = min(max(disagreement, 0.0), 0.5)
    return 1 - d, (1 + math.sqrt(1 - 2 * d)) / 2


def repeats_needed(margin: float = MARGIN, confidence: float = 0.95) -> int:
    """Pairs to judge twice for a disagreement rate known to ``margin``, whatever it is (at its worst, one half)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return math.ceil((z / margin) ** 2 / 4)


def check_label_error(assumed: float | None) -> None:
    """Refuse an error rate outside [0, 0.5).

    Raises:
        UsageError: it is outside.
    """
    if assumed is not None and not 0 <= assumed < 0.5:
        raise UsageError(
            f"label error is {assumed}; at least 0 and below 0.5 is accepted: at one half labels are coins."
        )


def plan_noise(found: LabelNoise | None, accuracy: Interval | None, *, assumed: float | None = None) -> NoisePlan:
    """Ceilings where noise was estimated, and scenarios where it was not or one is asked for.

    Args:
        found: of :func:`safetyvalve.data.quality.label_noise`.
        accuracy: of the probe on the labels, at the most data.
        assumed: an error rate to look at, in [0, 0.5).

    Raises:
        UsageError: an error rate outside.
    """
    check_label_error(assumed)
    rates: Sequence[float] = (assumed,) if assumed is not None else (SCENARIOS if found is None else ())
    reached = None if accuracy is None else accuracy.estimate
    ceiling = widest = None
    if found is not None:
        d = found.disagreement
        ceiling = accuracy_ceiling(d.share)
        widest = (accuracy_ceiling(d.high)[0], accuracy_ceiling(d.low)[1])
    scenarios = tuple(NoiseScenario(e, 1 - e, _on_truth(reached, e)) for e in rates)
    return NoisePlan(found, ceiling, widest, scenarios, assumed is not None, repeats_needed())


def _on_truth(accuracy: float | None, error_rate: float) -> float | None:
    if accuracy is None:
        return None
    value = (accuracy - error_rate) / (1 - 2 * error_rate)
    return value if 0 <= value <= 1 else None
