"""A planned evaluation in verdicts, people and hours, also for one that is looked at all the time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from safetyvalve.errors import UsageError
from safetyvalve.stats.clusters import Floats
from safetyvalve.stats.power import Design, Need, detectable_win_rate, required_prompts
from safetyvalve.stats.sequential import log_capitals

__all__ = ["Plan", "anytime_prompts", "plan_evaluation"]

PATHS = 300


class Plan(NamedTuple):
    """What it takes."""

    win_rate: float | None
    """Found (given the number of prompts), or as asked for."""
    need: Need
    judgments: int | None
    """Verdicts with those for gold items, practice and repeats."""
    hours: float | None
    people: int | None
    """So that nobody works longer than ``hours_each``, or as many as were given."""
    hours_each: float | None
    anytime_prompts: int | None
    """Prompts with which the anytime-valid interval has the same power; None if more than six times as
    many, and where people's tastes or a judge enter, which it does not know."""


def plan_evaluation(
    design: Design,
    *,
    win_rate: float | None = None,
    prompts: int | None = None,
    power: float = 0.8,
    confidence: float = 0.95,
    seconds: float = 60.0,
    extra: float = 0.1,
    hours_each: float = 4.0,
    seed: int = 0,
) -> Plan:
    """Prompts for a win rate, or the win rate that so many prompts show; then judgments, hours, people.

    Args:
        design: raters, ties, agreement, judge.
        win_rate: the smallest difference from one half that matters, as a win rate. Either this or ``prompts``.
        prompts: how many there are.
        power: chance to show a true difference of that size.
        confidence: of the two-sided interval.
        seconds: active time a judgment takes; measure it in a trial.
        extra: judgments on gold items, practice and repeats, as a share of the others.
        hours_each: longest time one person should work, if the number of people is open.
        seed: of the simulated evaluations that are looked at all the time.

    Raises:
        UsageError: both or none of ``win_rate`` and ``prompts``, or a value that is not accepted.
    """
    if (win_rate is None) == (prompts is None):
        raise UsageError(f"win rate is {win_rate} and prompts {prompts}; exactly one of the two is accepted.")
    for name, value in (("seconds", seconds), ("hours_each", hours_each)):
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{name} is {value}; a number above 0 is accepted.")
    if not 0 <= extra < 10:
        raise UsageError(f"extra is {extra}; a share of the judgments such as 0.1 is accepted.")
    if prompts is not None:
        win_rate = detectable_win_rate(design, prompts, power=power, confidence=confidence)
        verdicts = math.ceil(prompts * design.verdicts_per_prompt - 1e-9)
        effect = required_prompts(design, win_rate, power=power, confidence=confidence) if win_rate else None
        need = Need(
            prompts,
            verdicts,
            effect.design_effect if effect else math.inf,
            effect.least_annotators if effect else design.raters,
        )
    else:
        assert win_rate is not None
        need = required_prompts(design, win_rate, power=power, confidence=confidence)
    if need.verdicts is None or need.prompts is None:
        return Plan(win_rate, need, None, None, None, None, None)
    judgments = math.ceil(need.verdicts * (1 + extra) - 1e-9)
    hours = judgments * seconds / 3600
    people = design.annotators or max(design.raters, math.ceil(hours / hours_each - 1e-9))
    peeking = None
    if win_rate is not None and design.annotator_spread == 0 and design.judge_prompts == 0:
        peeking = anytime_prompts(design, win_rate, need.prompts, power=power, confidence=confidence, seed=seed)
    return Plan(win_rate, need, judgments, hours, people, hours / people, peeking)


def anytime_prompts(
    design: Design, win_rate: float, fixed: int, *, power: float = 0.8, confidence: float = 0.95, seed: int = 0
) -> int | None:
    """Prompts by which the confidence sequence has left one half out in a share ``power`` of simulated evaluations.

    Verdicts on a prompt are all the same with chance ``agreement`` and independent otherwise, which gives them that
    correlation. People without a taste of their own and no judge.

    Args:
        design: raters, overlap, ties, agreement.
        win_rate: the true one.
        fixed: prompts with a single look, which sets the scale.
        power, confidence: as planned.
        seed: of the simulation.

    Returns:
        Prompts, to about 4%; None if more than six times ``fixed``.
    """
    generator = np.random.default_rng(seed)
    looks = np.unique(np.geomspace(max(2, fixed / 8), 6 * fixed, 100).astype(int))
    threshold = math.log(2 / (1 - confidence))
    first = np.full(PATHS, np.inf)
    levels, chances = _prompt_scores(design, win_rate)
    for path in range(PATHS):
        counts = np.cumsum(generator.multinomial(np.diff(looks, prepend=0), chances), axis=0).astype(np.float64)
        up, down = log_capitals(levels, counts, np.full(looks.size, 0.5))
        reached = np.flatnonzero(np.maximum(up, down) >= threshold)
        if reached.size:
            first[path] = looks[reached[0]]
    found = float(np.sort(first)[math.ceil(power * PATHS) - 1])
    return int(found) if math.isfinite(found) else None


def _prompt_scores(design: Design, win_rate: float) -> tuple[Floats, Floats]:
    """The values that the mean score of a prompt can take, and their chances."""
    lose = 1 - win_rate - design.ties / 2
    one = np.array([lose, design.ties, 1 - lose - design.ties])
    several = np.ones(1)
    for _ in range(design.raters):
        several = np.convolve(several, one)
    levels = np.arange(several.size) / (2 * design.raters)
    alike = np.zeros(several.size)
    alike[[0, design.raters, 2 * design.raters]] = one
    independent = design.overlap * (1 - design.agreement)
    return levels, independent * several + (1 - independent) * alike
