"""A reward model of ``safetyvalve reward train`` as a judge: all its members, aggregated, prompts computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safetyvalve.data.schema import Prompt
from safetyvalve.errors import JudgeError, shorten
from safetyvalve.judges.protocol import Failure, Opinion, Question, now, opinion_of_scores
from safetyvalve.judges.scoring import check_margin
from safetyvalve.rewards import Aggregation, RewardModel, aggregate, ensemble_hash
from safetyvalve.rewards.scoring import NOT_FINITE
from safetyvalve.stats.verdicts import RaterKind

__all__ = ["EnsembleJudge"]

QUESTIONS = 32
"""Scored between two answers to whoever asks; each is two conversations."""


class EnsembleJudge:
    """Scores conversations by the aggregated reward; the higher one wins.

    Args:
        model: one member or many.
        name: of the rater.
        margin: rewards that differ by this or less tie.
        aggregation: how one reward is made of the members'; None takes the model's own.
    """

    kind: RaterKind = "reward"
    both_orders = False
    cacheable = True

    def __init__(
        self, model: RewardModel, name: str, *, margin: float = 0.0, aggregation: Aggregation | None = None
    ) -> None:
        self.model, self.name, self.margin = model, name, check_margin(margin)
        self.aggregation = aggregation or (model.record.aggregation if model.record else Aggregation())
        self._weights = ensemble_hash(model)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "judge": "reward",
            "model": self.name,
            "version": self.model.record.version if self.model.record else None,
            "weights_sha256": self._weights,
            "members": self.model.members,
            "aggregation": self.aggregation.method,
            "k": self.aggregation.k,
            "dtype": str(self.model.dtype),
            "chat_template": self.model.tokenizer.chat_template,
            "margin": self.margin,
        }

    def opinions(self, questions: Sequence[Question]) -> Iterator[tuple[int, Opinion | Failure]]:
        """As the protocol says; a conversation that has no reward is no verdict, with its cause.

        Raises:
            ModelError: the chat template refuses a conversation.
            JudgeError: a reward is not finite.
        """
        for start in range(0, len(questions), QUESTIONS):
            some = questions[start : start + QUESTIONS]
            conversations = [c for q in some for c in (q.first, q.second)]
            rewards = self._rewards(conversations)
            for place in range(len(some)):
                pair = rewards[2 * place : 2 * place + 2]
                causes = [r for r in pair if isinstance(r, str)]
                numbers = [r for r in pair if isinstance(r, float)]
                if causes:
                    yield start + place, Opinion(choice="none", cause=causes[0], model=self.name, time=now())
                else:
                    yield start + place, opinion_of_scores(*numbers, margin=self.margin, model=self.name)

    def _rewards(self, conversations: Sequence[Prompt]) -> list[float | str]:
        """The reward of each conversation's last turn, or why it has none."""
        by_prompt: dict[Prompt, dict[str, None]] = {}
        for c in conversations:
            by_prompt.setdefault(c[:-1], {}).setdefault(c[-1].content)
        found: dict[tuple[Prompt, str], float | str] = {}
        scored = self.model.score(list(by_prompt), [list(texts) for texts in by_prompt.values()])
        for (prompt, texts), scores in zip(by_prompt.items(), scored, strict=True):
            values = aggregate(scores.members, self.aggregation.method, k=self.aggregation.k)
            for text, value, reason in zip(texts, values, scores.reasons, strict=True):
                if reason == NOT_FINITE:
                    raise JudgeError(
                        f"the reward model '{self.name}' gave nan for the answer {shorten(text)}; finite numbers are "
                        "accepted. Mend or replace the model."
                    )
                found[prompt, text] = float(value) if reason is None else _cause(reason)
        return [found[c[:-1], c[-1].content] for c in conversations]


def _cause(reason: str) -> str:
    """Without figures and quotations, so that equal causes are counted together."""
    return "special token in the text" if "special token" in reason else reason.partition(" (")[0]
