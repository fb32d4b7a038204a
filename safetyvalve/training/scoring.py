"""Scores of sampled answers: by the proxy, by an independent scorer, by a held-out member. What has none is counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from safetyvalve.data import Prompt
from safetyvalve.errors import UsageError, shorten
from safetyvalve.rewards import Scores, spread

__all__ = ["Proxy", "SampleScorer", "Scored", "Scorer"]

Scorer = Callable[[list[str], list[str]], list[float]]
"""Independent score of answers: ``(prompts, answers) -> scores``; prompts as their last user turn. NaN is unscored."""

Row = dict[str, float | None]


class Proxy(Protocol):
    """A reward model, as :class:`safetyvalve.rewards.RewardModel`."""

    def score(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], *, autocast: torch.dtype | None
    ) -> list[Scores]: ...


class Scored(NamedTuple):
    """Scores of answers, in their order."""

    rows: list[Row]
    """By field; None is unscored."""
    unscored: dict[str, int]
    """Answers without a score, by ``independent``, ``proxy`` and ``held_out_member``; only where there are any."""


class SampleScorer:
    """Scores answers by everything there is.

    A scorer that cannot be used at the first evaluation is an error: nothing is lost by stopping there. One that fails
    later leaves the answers of that evaluation unscored, which is counted and said, and the run goes on.

    Args:
        independent: the independent score, never used in training.
        proxy: the reward model whose overoptimization is watched.
        held_out_member: a reward model trained on other comparisons than the proxy. Its kind of error is the proxy's:
            it is not independent.
        autocast: the type that reward models compute in.
        say: told of what failed.
    """

    def __init__(
        self,
        *,
        independent: Scorer | None = None,
        proxy: Proxy | None = None,
        held_out_member: Proxy | None = None,
        autocast: torch.dtype | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.independent, self.proxy, self.held_out_member = independent, proxy, held_out_member
        self.autocast, self.say = autocast, say
        self.begun = False
        """Whether anything was scored yet."""

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str], *, first: bool) -> Scored:
        """Score answers.

        Args:
            prompts: [answer] what each answers.
            answers: [answer] texts.
            first: whether this is the run's first evaluation, before training.

        Raises:
            UsageError: at the first evaluation, a scorer that raises, gives no score at all, or not one an answer.
        """
        rows: list[Row] = [{"independent_score": None} for _ in answers]
        unscored: dict[str, int] = {}
        for name, field, source in self._sources(prompts, answers):
            given = self._guarded(name, field, source, len(answers), first=first)
            for row, values in zip(rows, given, strict=True):
                row |= values
            if missing := sum(row.get(field) is None for row in rows):
                unscored[name] = missing
                self.say(f"{_TITLES[name]}: {missing} of {len(rows)} answers are unscored")
        self.begun = True
        return Scored(rows, unscored)

    def _sources(
        self, prompts: Sequence[Prompt], answers: Sequence[str]
    ) -> list[tuple[str, str, Callable[[], list[Row]]]]:
        """Name, the field that tells whether there is a score, and what gives the rows."""
        sources: list[tuple[str, str, Callable[[], list[Row]]]] = []
        if (scorer := self.independent) is not None:
            sources.append(("independent", "independent_score", lambda: _independently(scorer, prompts, answers)))
        if (proxy := self.proxy) is not None:
            sources.append(("proxy", "proxy_reward", lambda: self._by(proxy, prompts, answers, _of_proxy)))
        if (other := self.held_out_member) is not None:
            sources.append(
                ("held_out_member", "held_out_member", lambda: self._by(other, prompts, answers, _of_member))
            )
        return sources

    def _guarded(self, name: str, field: str, source: Callable[[], list[Row]], count: int, *, first: bool) -> list[Row]:
        """Rows of a source; empty ones where it fails after the first evaluation."""
        title = _TITLES[name]
        try:
            rows = source()
        except (Exception, SystemExit) as error:  # a scorer is anybody's code, and may break after hours
            what = shorten(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 200)
            if first and isinstance(error, UsageError):
                raise
            if first:
                raise UsageError(
                    f"the {title} failed on the first {count} answers ({what}); it must give a number for each. Mend "
                    "it and start again: nothing was trained."
                ) from error
            self.say(f"the {title} failed ({what}); its scores of this evaluation are missing")
            return [{} for _ in range(count)]
        if first and rows and all(row.get(field) is None for row in rows):
            raise UsageError(
                f"the {title} gave no finite score for any of the first {count} answers; finite numbers are accepted, "
                "NaN for an answer that cannot be scored. Mend it and start again: nothing was trained."
            )
        return rows

    def _by(
        self, model: Proxy, prompts: Sequence[Prompt], answers: Sequence[str], rows_of: Callable[[Scores], list[Row]]
    ) -> list[Row]:
        """Answers to equal prompts go to the reward model together: they are one tree."""
        places: dict[Prompt, list[int]] = {}
        for index, prompt in enumerate(prompts):
            places.setdefault(tuple(prompt), []).append(index)
        texts = [[answers[i] for i in where] for where in places.values()]
        rows: list[Row] = [{} for _ in answers]
        for where, scores in zip(
            places.values(), model.score(list(places), texts, autocast=self.autocast), strict=True
        ):
            if scores.members.shape[1:] != (len(where),):
                raise UsageError(
                    f"a reward model gave scores of shape {scores.members.shape} for {len(where)} answers; one a "
                    "member and answer is accepted."
                )
            for index, row in zip(where, rows_of(scores), strict=True):
                rows[index] = row
        return rows


_TITLES = {"independent": "independent scorer", "proxy": "proxy", "held_out_member": "held-out member"}


def _independently(scorer: Scorer, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Row]:
    given: Any = scorer([p[-1].content for p in prompts], list(answers))
    try:
        scores = [float(score) for score in given]
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the scorer gave {shorten(given)} ({error}); it must give a number for each answer."
        ) from None
    if len(scores) != len(answers):
        raise UsageError(
            f"the scorer gave {len(scores)} scores for {len(answers)} answers; it must give one each, in order."
        )
    return [{"independent_score": _finite(score)} for score in scores]


def _of_proxy(scores: Scores) -> list[Row]:
    """Mean over members, spread over members, width. An answer that any member cannot score has none of them."""
    whole = np.atleast_1d(np.isfinite(scores.members).all(axis=0))
    means, spreads = scores.members.mean(axis=0), spread(scores.members)
    rows: list[Row] = []
    for i, scored in enumerate(whole.tolist()):
        row = {"proxy_reward": float(means[i]) if scored else None}
        if len(scores.members) > 1:  # of one member there is no spread, which is not a spread of 0
            row["proxy_spread"] = float(spreads[i]) if scored else None
        if scores.width is not None:
            row["proxy_width"] = _finite(float(scores.width[i])) if scored else None
        rows.append(row)
    return rows


def _of_member(scores: Scores) -> list[Row]:
    return [{"held_out_member": _finite(float(value))} for value in scores.members.mean(axis=0)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
