"""A judge made of arithmetic, for tests and demonstrations: deterministic, with biases to set."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from safetyvalve.data.schema import Prompt
from safetyvalve.judges.protocol import Choice, Failure, Opinion, Question, now
from safetyvalve.stats.verdicts import RaterKind

__all__ = ["FakeJudge"]


class _Draws(NamedTuple):
    preference: float
    silence: float


class FakeJudge:
    """Prefers an answer with the probability sigmoid(quality + biases); the draw depends on the pair, not its order.

    Args:
        quality: log-odds of a conversation; 0 for all if None.
        position_bias: log-odds added to the answer shown first. Without it both orders always agree.
        length_bias: log-odds for each doubling of the length.
        none_share: share of questions without a verdict.
        seed: of the draws.
        name: of the rater.
    """

    kind: RaterKind = "judge"
    both_orders = True
    cacheable = True

    def __init__(
        self,
        *,
        quality: Callable[[Prompt], float] | None = None,
        position_bias: float = 0.0,
        length_bias: float = 0.0,
        none_share: float = 0.0,
        seed: int = 0,
        name: str = "fake",
    ) -> None:
        self.quality, self.name, self.seed = quality, name, seed
        self.position_bias, self.length_bias, self.none_share = position_bias, length_bias, none_share
        self.cacheable = quality is None

    @property
    def settings(self) -> Mapping[str, Any]:
        names = ("name", "position_bias", "length_bias", "none_share", "seed")
        return {"judge": "fake", **{n: getattr(self, n) for n in names}}

    def opinions(self, questions: Sequence[Question]) -> Iterator[tuple[int, Opinion | Failure]]:
        """As the protocol says."""
        for index, question in enumerate(questions):
            choice = self._choice(question)
            cause = "silent by design" if choice == "none" else None
            yield index, Opinion(choice=choice, cause=cause, model=self.name, time=now())

    def _choice(self, question: Question) -> Choice:
        texts = [json.dumps([m.model_dump() for m in c], ensure_ascii=False) for c in question]
        draws = self._draws("|".join(sorted(texts)))
        if draws.silence < self.none_share:
            return "none"
        gain = self.position_bias + self._merit(question.first) - self._merit(question.second)
        probability = 1 / (1 + math.exp(-max(-700.0, min(700.0, gain))))
        # One draw for both orders, read from the side of the answer that sorts first.
        draw = draws.preference if texts[0] <= texts[1] else 1 - draws.preference
        return "first" if draw < probability else "second"

    def _merit(self, conversation: Prompt) -> float:
        length = self.length_bias * math.log2(1 + len(conversation[-1].content))
        return length + (self.quality(conversation) if self.quality else 0.0)

    def _draws(self, text: str) -> _Draws:
        digest = hashlib.sha256(f"{self.seed}|{text}".encode()).digest()
        # In the open interval, so that no probability is certain to be above or below.
        a, b = (int.from_bytes(digest[i : i + 6]) for i in (0, 6))
        return _Draws((a + 0.5) / 2**48, (b + 0.5) / 2**48)
