"""The valve: it trips when the learned reward rises and people's win rate, corrected by PPI, does not.

Both are win rates, so that one scale serves: how often the reward prefers the candidate's answer to a prompt, and how
often people do. "Rises" means that the mean is shown to be above one half; "does not", that a rise of ``min_rise`` is
refuted. Between the two the valve waits, as a gate does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safetyvalve.errors import UsageError
from safetyvalve.release.staged.observations import Observation
from safetyvalve.release.staged.settings import Settings, Stage
from safetyvalve.stats import Interval, anytime_interval, ppi_mean
from safetyvalve.stats.corrected import Corrected, corrected_interval

__all__ = ["ValveReading", "read_valve", "valve_of"]

ValveState = Literal["shut", "tripped", "inconclusive", "no_reward"]
"""``shut``: nothing escapes, as the reward does not rise or people's win rate rises with it."""
ValveReason = Literal["reward_flat", "both_rise", "people_do_not", "people_open", "no_people", "no_reward"]


@dataclass(frozen=True)
class ValveReading:
    """What the valve saw."""

    state: ValveState
    reason: ValveReason
    reward: Corrected | None
    """Share of prompts on which the reward prefers the candidate, ties one half."""
    people: Corrected | None
    """People's win rate with a judge's help, at all times at once."""
    at_one_look: Interval | None
    """The same by PPI++, 95%, as if looked at once: narrower, for comparison, and it decides nothing."""
    min_rise: float


def read_valve(
    reward_candidate: Mapping[str, float],
    reward_control: Mapping[str, float],
    human: Mapping[str, float],
    judge: Mapping[str, float] | None = None,
    *,
    min_rise: float = 0.03,
    judge_weight: float = 0.5,
    alpha: float = 0.05,
) -> ValveReading:
    """Compare what the reward and what people say of a candidate and a control.

    Args:
        reward_candidate: learned reward of the candidate's answer by prompt, any scale.
        reward_control: of the control's.
        human: people's score of the candidate by prompt: 1 won, 0 lost, 1/2 a tie; a random sample of prompts.
        judge: a judge's score by prompt, where there is one.
        min_rise: a win rate below one half plus this is no rise.
        judge_weight: help of the judge, fixed beforehand.
        alpha: of each statement alone, at all times at once.

    Raises:
        UsageError: scores outside [0, 1].
    """
    if not 0 <= min_rise < 0.5:
        raise UsageError(f"min_rise is {min_rise}; from 0 to below 0.5 is accepted.")
    preferred = [
        (1 + np.sign(reward_candidate[p] - reward_control[p])) / 2 for p in reward_candidate if p in reward_control
    ]
    if not preferred:
        return ValveReading("no_reward", "no_reward", None, None, None, min_rise)
    found = anytime_interval(preferred, confidence=1 - 2 * alpha)
    reward = Corrected(found.estimate, found.low, found.high, len(preferred), 0)
    people, once = _people(human, judge or {}, judge_weight, alpha)
    if reward.low <= 0.5:
        return ValveReading("shut", "reward_flat", reward, people, once, min_rise)
    if people is None:
        return ValveReading("inconclusive", "no_people", reward, None, None, min_rise)
    if people.low > 0.5:
        return ValveReading("shut", "both_rise", reward, people, once, min_rise)
    if people.high < 0.5 + min_rise:
        return ValveReading("tripped", "people_do_not", reward, people, once, min_rise)
    return ValveReading("inconclusive", "people_open", reward, people, once, min_rise)


def _people(
    human: Mapping[str, float], judge: Mapping[str, float], weight: float, alpha: float
) -> tuple[Corrected | None, Interval | None]:
    if not human:
        return None, None
    y = list(human.values())
    other = [value for unit, value in judge.items() if unit not in human]
    if not other or any(unit not in judge for unit in human):
        return corrected_interval(y, weight=0, alpha=alpha), None
    same = [judge[unit] for unit in human]
    once = ppi_mean(y, same, other).interval if len(y) >= 3 and len(other) >= 2 else None
    return corrected_interval(y, same, other, weight=weight, alpha=alpha), once


def valve_of(settings: Settings, stage: Stage, observations: Iterable[Observation]) -> ValveReading:
    """The valve of a stage, from what was recorded in it."""
    rows = [o for o in observations if o.stage == stage.name]
    rules = settings.valve

    def values(metric: str, variant: str, source: str | None = None) -> dict[str, float]:
        return {
            o.unit: o.value for o in rows if o.metric == metric and o.variant == variant and source in (None, o.source)
        }

    return read_valve(
        values(rules.reward, "candidate"),
        values(rules.reward, "control"),
        values(rules.win_rate, "candidate", "people"),
        values(rules.win_rate, "candidate", "judge"),
        min_rise=rules.min_rise,
        judge_weight=rules.judge_weight,
        alpha=settings.error_rates.promote,
    )
