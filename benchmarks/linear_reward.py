"""A small independent reward: Bradley-Terry, linear in the sentence embedding of the answer.

It shares neither architecture nor data with the policies it judges. Its accuracy on held-out pairs is part of every
use: near 0.5 it can tell nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from safetyvalve.data import PreferenceExample
from safetyvalve.encoders import SentenceEncoder

__all__ = ["LinearReward", "pair_answers"]

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


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
        candidates = [(_weights(known, ridge), ridge) for ridge in RIDGES]
        self.weights, self.ridge = min(candidates, key=lambda c: float(np.logaddexp(0, -unseen @ c[0]).mean()))

    def _differences(self, examples: Sequence[PreferenceExample]) -> NDArray[Any]:
        better, worse = pair_answers(examples)
        return self.encoder(better).vectors - self.encoder(worse).vectors

    def correct(self, examples: Sequence[PreferenceExample]) -> list[float]:
        """1 for each comparison it orders as people did, else 0."""
        return [float(d > 0) for d in self._differences(examples) @ self.weights]

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """Scores of answers, in the logits of the Bradley-Terry model; an empty answer is embedded like any other."""
        return [float(s) for s in self.encoder(list(answers)).vectors @ self.weights]


def _weights(differences: NDArray[Any], ridge: float) -> NDArray[Any]:
    """Minimiser of mean log(1 + exp(-w . d)) + ridge |w|^2 / 2."""

    def loss(w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        margins = differences @ w
        slope = -1 / (1 + np.exp(margins))
        return float(np.logaddexp(0, -margins).mean() + ridge * w @ w / 2), differences.T @ slope / len(
            margins
        ) + ridge * w

    return np.asarray(minimize(loss, np.zeros(differences.shape[1]), jac=True, method="L-BFGS-B").x)
