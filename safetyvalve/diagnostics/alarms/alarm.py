"""What the alarms take and give, and how their chance of a false alarm is shared out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from safetyvalve.errors import UsageError

__all__ = ["ALARMS", "ALPHA", "Alarm", "Estimate", "Evaluation", "advice", "check_level", "share_of_look"]

ALARMS = ("displacement", "proxy-gap", "length", "repetition", "uncertainty")
"""Names, as ``--stop-on`` takes them and ``alarms.jsonl`` holds them."""

ALPHA = 0.05
"""Largest chance that a run in which nothing is the matter raises any of the alarms, at any of its evaluations."""

_NOBODY: Mapping[str, float] = MappingProxyType({})


class Estimate(NamedTuple):
    """A mean with its standard error over ``n`` independent units."""

    mean: float
    standard_error: float
    n: int


class Evaluation(NamedTuple):
    """What one evaluation measured. What was not measured is left out, and its alarm does not speak.

    Mappings are by prompt, each the mean over the prompt's answers; a prompt without a value is not in them.
    """

    step: int
    displacement: Estimate | None = None
    """Change of log-probability of the chosen (or the baseline's) responses since step 0, nats per token."""
    tokens: Mapping[str, float] = _NOBODY
    repetition: Mapping[str, float] = _NOBODY
    score: Mapping[str, float] = _NOBODY
    """Independent score; higher is better."""
    proxy: Mapping[str, float] = _NOBODY
    """Reward that the policy is, in effect, trained on."""
    spread: Mapping[str, float] = _NOBODY
    """Uncertainty of that reward: spread over the members of its ensemble, or its width."""
    training_loss: float | None = None
    """Mean over the steps since the evaluation before; stands for the proxy where there is none."""


class Alarm(NamedTuple):
    """What one alarm says at one evaluation."""

    name: str
    step: int
    raised: bool
    value: float
    """What was measured; the unit is the alarm's."""
    bound: float
    """The end of the one-sided confidence interval that is compared with the limit; for ``proxy-gap`` log e."""
    limit: float
    n: int
    """Prompts, or examples, behind it."""
    since: int = 0
    """Step that it is compared with."""

    @property
    def says(self) -> str:
        """One line for a person."""
        text = _SAYS[self.name].format(value=self.value, bound=self.bound, limit=self.limit, since=self.since, n=self.n)
        return f"{self.name} {'ALARM' if self.raised else 'quiet'}: {text}"


def advice(name: str) -> str:
    """What to do about an alarm, in a sentence or two."""
    return _ADVICE[name]


def share_of_look(look: int, alpha: float) -> float:
    """What the look-th look, from 1, may spend of ``alpha``: alpha / (look (look + 1)), which sums to alpha.

    So an alarm that raises at each look with at most this chance raises ever with at most alpha, however many looks
    there are and however they depend on each other.
    """
    return alpha / (look * (look + 1))


def check_level(alpha: float) -> float:
    """The level if it is inside (0, 1)."""
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is {alpha}; a chance of a false alarm between 0 and 1 is accepted, such as 0.05.")
    return alpha


_SAYS = {
    "displacement": "log-probability changed by {value:+.3f} nats a token (at most {bound:+.3f}; limit {limit:+.3f})",
    "proxy-gap": "score {value:+.3f} since step {since}, and the proxy rose (log e {bound:.2f}; limit {limit:.2f})",
    "length": "answers are {value:.2f} times as long as at step 0 (bound {bound:.2f}; limit {limit:.2f})",
    "repetition": "repetition changed by {value:+.3f} (at least {bound:+.3f}; limit {limit:+.3f})",
    "uncertainty": "the proxy's spread is {value:.2f} times that of step 0 (at least {bound:.2f}; limit {limit:.2f})",
}
_ADVICE = {
    "displacement": (
        "A symptom, not proof: look at the independent score and at answers. If they got worse, raise --eta, set "
        "--max-displacement, or lower the learning rate."
    ),
    "proxy-gap": (
        "Training improves its own measure and not the answers. Take an earlier checkpoint (--select independent), and "
        "train with more comparisons, a larger --beta, or --max-displacement."
    ),
    "length": (
        "Check whether longer or shorter answers are what people want; if the chosen responses are longer, the "
        "comparisons may have taught length."
    ),
    "repetition": "Read some answers. Repetition is damage: take an earlier checkpoint, or lower the learning rate.",
    "uncertainty": (
        "The policy writes what its reward knows little about. Collect comparisons of such answers, or train with a "
        "pessimistic aggregation."
    ),
}
