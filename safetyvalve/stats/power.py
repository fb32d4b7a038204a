"""How many verdicts a planned evaluation needs for a difference of so much, and what it costs in people and hours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from safetyvalve.errors import UsageError

__all__ = ["Design", "Need", "detectable_win_rate", "power_of", "required_prompts", "score_variance", "standard_error"]

LARGEST = 10_000_000


@dataclass(frozen=True)
class Design:
    """How an evaluation will be carried out. Shares and correlations in [0, 1]; all are assumptions to be checked.

    Attributes:
        raters: k, verdicts on a prompt that is judged by several people.
        overlap: share of prompts judged by k people; the others by one.
        ties: share of verdicts that are ties or both bad.
        agreement: correlation of two people's scores on a prompt (about Krippendorff's alpha).
        annotator_spread: correlation of two scores by one person on different prompts: tastes that differ.
        annotators: how many people; asked for when ``annotator_spread`` is above 0. Work is split evenly.
        judge_correlation: correlation of a prompt's mean human score with a judge's; 0 without a judge.
        judge_prompts: prompts with a judge's verdict only, for PPI++.
    """

    raters: int = 1
    overlap: float = 1.0
    ties: float = 0.2
    agreement: float = 0.4
    annotator_spread: float = 0.0
    annotators: int | None = None
    judge_correlation: float = 0.0
    judge_prompts: int = 0

    def __post_init__(self) -> None:
        for name in ("overlap", "agreement", "annotator_spread"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}; between 0 and 1 is accepted.")
        if not 0 <= self.ties < 1:
            raise UsageError(f"ties is {self.ties}; at least 0 and below 1 is accepted.")
        if not -1 < self.judge_correlation < 1:
            raise UsageError(f"judge_correlation is {self.judge_correlation}; between -1 and 1 is accepted.")
        if self.agreement + self.annotator_spread > 1:
            raise UsageError(
                f"agreement {self.agreement} and annotator_spread {self.annotator_spread} add up to more than 1; "
                "both are shares of the same variance."
            )
        if self.raters < 1 or self.judge_prompts < 0:
            raise UsageError(f"raters is {self.raters} and judge_prompts {self.judge_prompts}; 1 and 0 are the least.")
        if self.annotators is not None and self.annotators < self.raters:
            raise UsageError(f"annotators is {self.annotators}; at least the {self.raters} raters a prompt are needed.")
        if self.annotator_spread > 0 and (self.annotators is None or self.annotators < 2):
            raise UsageError(
                f"annotators is {self.annotators}; with annotator_spread {self.annotator_spread} at least 2 are needed."
            )

    @property
    def verdicts_per_prompt(self) -> float:
        """Mean number of human verdicts on a prompt."""
        return 1 + self.overlap * (self.raters - 1)


class Need(NamedTuple):
    """What a design needs to show a win rate, or that no number of prompts is enough for these people."""

    prompts: int | None
    verdicts: int | None
    design_effect: float
    """How many times the verdicts of independent prompts and people are needed."""
    least_annotators: int
    """With fewer people no number of prompts is enough."""


def score_variance(win_rate: float, ties: float) -> float:
    """Variance of a score that is 1, 1/2 (a share ``ties``) or 0 with mean ``win_rate``: w (1 - w) - ties / 4."""
    if not (0 < win_rate < 1 and ties / 2 <= win_rate <= 1 - ties / 2):
        raise UsageError(
            f"win rate {win_rate} with ties {ties} is impossible; with that many ties it lies between "
            f"{ties / 2:g} and {1 - ties / 2:g}."
        )
    return win_rate * (1 - win_rate) - ties / 4


def standard_error(design: Design, prompts: int, win_rate: float) -> float:
    """Of the mean of all verdicts, prompts and annotators crossed at random.

    s2 [agreement sum(m_i^2) / N^2 + annotator_spread / R + (1 - agreement - annotator_spread) / N], m_i verdicts on
    prompt i, N in all, R people. A judge takes off correlation^2 M / (n + M) of the part that is due to prompts.
    """
    k, share = design.raters, design.overlap
    verdicts = prompts * design.verdicts_per_prompt
    squares = prompts * (1 - share + share * k * k)
    sampling = design.agreement * squares / verdicts**2
    sampling += (1 - design.agreement - design.annotator_spread) / verdicts
    judged = design.judge_prompts
    sampling *= 1 - design.judge_correlation**2 * judged / (prompts + judged)
    people = design.annotator_spread / design.annotators if design.annotators and design.annotator_spread else 0.0
    return math.sqrt(score_variance(win_rate, design.ties) * (sampling + people))


def power_of(design: Design, prompts: int, win_rate: float, *, confidence: float = 0.95) -> float:
    """Chance that the two-sided interval leaves one half out, when the true win rate is ``win_rate``; noncentral t."""
    degrees = _degrees(design, prompts)
    error = standard_error(design, prompts, win_rate)
    if degrees < 1 or error == 0:
        return 0.0
    threshold = float(stats.t.ppf(0.5 + confidence / 2, degrees))
    shift = abs(win_rate - 0.5) / error
    if shift - threshold > 20:
        return 1.0
    # The far tail comes out as NaN where it is too small to compute.
    far = float(stats.nct.cdf(-threshold, degrees, shift))
    return float(stats.nct.sf(threshold, degrees, shift)) + (0.0 if math.isnan(far) else far)


def required_prompts(design: Design, win_rate: float, *, power: float = 0.8, confidence: float = 0.95) -> Need:
    """Least number of prompts with the power asked for, one comparison of two models each.

    Raises:
        UsageError: a win rate of one half or one that the ties forbid, a power or confidence outside (0, 1).
    """
    _check(power, confidence)
    if win_rate == 0.5:
        raise UsageError("win rate is 0.5, which is no difference; give the smallest one that matters, such as 0.55.")
    variance = score_variance(win_rate, design.ties)
    least = _least_annotators(design, win_rate, power, confidence)
    low, high = 1, 2
    while power_of(design, high, win_rate, confidence=confidence) < power:
        low, high = high, high * 2
        if high > LARGEST:
            return Need(None, None, math.inf, least)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if power_of(design, middle, win_rate, confidence=confidence) >= power else (middle, high)
        )
    verdicts = math.ceil(high * design.verdicts_per_prompt - 1e-9)
    effect = standard_error(design, high, win_rate) ** 2 / (variance / verdicts)
    return Need(high, verdicts, effect, least)


def detectable_win_rate(design: Design, prompts: int, *, power: float = 0.8, confidence: float = 0.95) -> float | None:
    """The smallest win rate above one half that so many prompts would show; None where even the largest is not."""
    _check(power, confidence)
    if prompts < 2:
        raise UsageError(f"prompts is {prompts}; at least 2 are needed.")
    most = 1 - design.ties / 2 - 1e-6

    def lacks(win_rate: float) -> float:
        return power_of(design, prompts, win_rate, confidence=confidence) - power

    if lacks(most) < 0:
        return None
    return float(brentq(lacks, 0.5 + 1e-9, most, xtol=1e-7))


def _least_annotators(design: Design, win_rate: float, power: float, confidence: float) -> int:
    """People needed when prompts are without number: only their own spread is left."""
    if design.annotator_spread == 0:
        return design.raters
    variance = score_variance(win_rate, design.ties) * design.annotator_spread
    for people in range(max(2, design.raters), 10_000):
        threshold = stats.t.ppf(0.5 + confidence / 2, people - 1)
        if stats.nct.sf(threshold, people - 1, abs(win_rate - 0.5) / np.sqrt(variance / people)) >= power:
            return people
    return 10_000


def _degrees(design: Design, prompts: int) -> int:
    if design.annotator_spread > 0 and design.annotators is not None:
        return min(prompts, design.annotators) - 1
    return prompts - 1


def _check(power: float, confidence: float) -> None:
    if not 0 < power < 1:
        raise UsageError(f"power is {power}; between 0 and 1 is accepted, such as 0.8.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95.")
