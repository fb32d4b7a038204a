"""Judges that score each answer on its own: any function, or a rubric written as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from safetyvalve.errors import JudgeError, UsageError, shorten
from safetyvalve.judges.protocol import Failure, Opinion, Question, opinion_of_scores
from safetyvalve.stats.verdicts import RaterKind

__all__ = ["RubricJudge", "check_margin", "check_scores"]


class RubricJudge:
    """A scorer ``(prompts, answers) -> scores``, prompts as their last turn; the higher score wins.

    Args:
        scorer: the function.
        name: of the rater.
        margin: scores that differ by this or less tie.

    Raises:
        UsageError: a negative or non-finite margin.
    """

    kind: RaterKind = "rubric"
    both_orders = False
    # The code behind a name can change, and most rubrics are faster than a look into the cache.
    cacheable = False

    def __init__(
        self, scorer: Callable[[list[str], list[str]], list[float]], name: str, *, margin: float = 0.0
    ) -> None:
        self.scorer, self.name, self.margin = scorer, name, check_margin(margin)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"judge": "rubric", "name": self.name, "margin": self.margin}

    def opinions(self, questions: Sequence[Question]) -> Iterator[tuple[int, Opinion | Failure]]:
        """As the protocol says.

        Raises:
            JudgeError: the function gives something else than a finite number for each answer.
        """
        conversations = [c for question in questions for c in question]
        given = self.scorer([c[-2].content for c in conversations], [c[-1].content for c in conversations])
        scores = check_scores(given, [c[-1].content for c in conversations], f"the scorer '{self.name}'")
        for index in range(len(questions)):
            yield index, opinion_of_scores(*scores[2 * index : 2 * index + 2], margin=self.margin, model=self.name)


def check_margin(margin: float) -> float:
    """Itself, if it is finite and not negative."""
    if not (math.isfinite(margin) and margin >= 0):
        raise UsageError(f"--tie-margin is {margin}; a finite number of at least 0 is accepted.")
    return margin


def check_scores(given: object, answers: Sequence[str], who: str) -> list[float]:
    """One finite number for each answer.

    Raises:
        JudgeError: otherwise, with the answer.
    """
    try:
        scores = [float(s) for s in given]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise JudgeError(f"{who} gave {shorten(given)} ({error}); it must give a number for each answer.") from None
    if len(scores) != len(answers):
        raise JudgeError(
            f"{who} gave {len(scores)} scores for {len(answers)} answers; it must give one each, in order."
        )
    for score, answer in zip(scores, answers, strict=True):
        if not math.isfinite(score):
            raise JudgeError(
                f"{who} gave {score} for the answer {shorten(answer)}; a finite number is accepted. Nothing was "
                "recorded: mend the score."
            )
    return scores
