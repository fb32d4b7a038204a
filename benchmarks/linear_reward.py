"""A small independent reward: Bradley-Terry, linear in the sentence embedding of the answer.

It shares neither architecture nor data with the policies it judges. Its accuracy on held-out pairs is part of every
use: near 0.5 it can tell nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from safetyvalve.data import PreferenceExample
from safetyvalve.encoders import SentenceEncoder
from safetyvalve.stats.linear_reward import RIDGES, fit_linear_reward, preference_loss

__all__ = ["LinearReward", "pair_answers"]


def pair_answers(examples: Sequence[PreferenceExample]) -> tuple[list[str], list[str]]:
    """Preferred and other answer of each comparison."""
    both = [(e.responses[c.winner].content, e.responses[c.loser].content) for e in examples for c in e.comparisons]
    return [a for a, _ in both], [b for _, b in both]


class LinearReward:
    """r(y) = w . embedding(y), w by ridge-penalised Bradley-Terry.

    Args:
        encoder: from texts to vectors of length 1.
        fit: pairs to learn from.
        validation: pairs on whose log loss the ridge is chosen.
    """

    def __init__(
        self, encoder: SentenceEncoder, fit: Sequence[PreferenceExample], validation: Sequence[PreferenceExample]
    ) -> None:
        self.encoder = encoder
        known, unseen = self._differences(fit), self._differences(validation)
        candidates = [(fit_linear_reward(known, ridge=ridge), ridge) for ridge in RIDGES]
        self.weights, self.ridge = min(candidates, key=lambda c: float(preference_loss(unseen @ c[0]).mean()))

    def _differences(self, examples: Sequence[PreferenceExample]) -> NDArray[Any]:
        better, worse = pair_answers(examples)
        return self.encoder(better).vectors - self.encoder(worse).vectors

    def correct(self, examples: Sequence[PreferenceExample]) -> list[float]:
        """1 for each comparison it orders as people did, else 0."""
        return [float(d > 0) for d in self._differences(examples) @ self.weights]

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """Scores of answers, in the logits of the Bradley-Terry model; an empty answer is embedded like any other."""
        return [float(s) for s in self.encoder(list(answers)).vectors @ self.weights]
