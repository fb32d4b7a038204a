"""How comparisons move the policy: by a loss on them, or through a reward model and its adversary."""

from __future__ import annotations

import math
from dataclasses import dataclass

from safetyvalve.errors import UsageError

__all__ = ["ALGORITHMS", "DEFAULTS", "Algorithm"]

ALGORITHMS = ("direct", "maximin")
"""``direct`` lowers a loss on comparisons (RPO and its relatives); ``maximin`` plays Algorithm 1 of arXiv 2405.16436
against a reward model."""

DEFAULTS = {
    "adversary_eta": 0.05,
    "reward_range": 4.0,
    "policy_samples": 4,
    "policy_max_tokens": 64,
    "reward_learning_rate": 1e-5,
}
"""Of the options of ``maximin``."""


@dataclass(frozen=True)
class Algorithm:
    """The algorithm, and the options of ``maximin``, which are None under ``direct``.

    Raises:
        UsageError: an unknown name, an option of the other algorithm, no reward, or a value out of range.
    """

    name: str = "direct"
    reward: str | None = None
    """Reward model that the game starts from: folder or hub name, as :func:`safetyvalve.rewards.load_reward`."""
    adversary_eta: float | None = None
    """Weight of the adversary in the reward's loss; 0 plays the same game without it."""
    reward_range: float | None = None
    """Width of the box that rewards lie in, in nats: a larger difference is worth no more to the adversary."""
    policy_samples: int | None = None
    """Answers a prompt and step."""
    policy_max_tokens: int | None = None
    """Where those answers are cut."""
    reward_learning_rate: float | None = None
    """Of the reward's AdamW, constant."""

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise UsageError(f"algorithm is '{self.name}'; accepted: {', '.join(ALGORITHMS)}.")
        if self.name == "direct":
            for option in ("reward", *DEFAULTS):
                if (value := getattr(self, option)) is not None:
                    raise UsageError(
                        f"{option} {value} has no meaning for the algorithm 'direct', which has no reward model. Leave "
                        "it out, or take --algorithm maximin."
                    )
            return
        if self.reward is None:
            raise UsageError(
                "algorithm 'maximin' needs --reward, the reward model that the game starts from, which is missing. "
                "Train one with `safetyvalve reward train --data FILE` and name its run folder."
            )
        object.__setattr__(self, "reward", str(self.reward))
        for option, default in DEFAULTS.items():
            if getattr(self, option) is None:
                object.__setattr__(self, option, default)
        self._check_ranges()

    def _check_ranges(self) -> None:
        eta, width, rate = self.adversary_eta, self.reward_range, self.reward_learning_rate
        samples, tokens = self.policy_samples, self.policy_max_tokens
        assert eta is not None and width is not None and rate is not None
        assert samples is not None and tokens is not None
        if not (math.isfinite(eta) and eta >= 0):
            raise UsageError(
                f"adversary_eta is {eta}; it must be a finite number of at least 0, such as 0.05. 0 is no adversary."
            )
        if not (math.isfinite(width) and width > 0):
            raise UsageError(f"reward_range is {width}; it must be a finite number above 0, such as 4.")
        if not 0 < rate < 1:
            raise UsageError(f"reward_learning_rate is {rate}; accepted: above 0 and below 1, such as 1e-5.")
        if samples < 2:
            raise UsageError(
                f"policy_samples is {samples}; it must be at least 2, since each answer is held against the others."
            )
        if tokens < 1:
            raise UsageError(f"policy_max_tokens is {tokens}; it must be at least 1.")
