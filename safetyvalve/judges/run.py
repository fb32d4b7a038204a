"""Pairs to judgments: both orders, nothing asked twice, nothing dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from safetyvalve.errors import JudgeError, shorten
from safetyvalve.judges.cache import OpinionCache, question_key
from safetyvalve.judges.items import Pair
from safetyvalve.judges.protocol import Failure, Judge, Opinion, Question
from safetyvalve.stats.verdicts import Position

__all__ = ["Judgment", "Plan", "judge_pairs", "plan"]

ROW_OF_FAILURES = 5
"""Questions in a row without an answer after which the rest is not tried."""


class Judgment(NamedTuple):
    """What a judge said to one pair, in each order that was shown."""

    pair: Pair
    opinions: dict[Position, Opinion | Failure]
    """Empty where nothing was asked: both answers are the same text."""


class Plan(NamedTuple):
    """What there is to ask."""

    asked: dict[str, Question]
    """By key; equal questions once."""
    known: dict[str, Opinion]
    """In the cache already."""
    orders: tuple[Position, ...]

    @property
    def todo(self) -> list[str]:
        return [key for key in self.asked if key not in self.known]


def plan(judge: Judge, pairs: Sequence[Pair], cache: OpinionCache | None) -> Plan:
    """Questions to a judge, and which of them the cache answers."""
    orders: tuple[Position, ...] = ("a_first", "b_first") if judge.both_orders else ("a_first",)
    settings = judge.settings
    asked = {
        question_key(settings, q): q
        for p in pairs if not is_same_text(p) for q in (question_of(p, o) for o in orders)
    }  # fmt: skip
    known = {}
    if cache is not None and judge.cacheable:
        known = {key: found for key in asked if (found := cache.get(key)) is not None}
    return Plan(asked, known, orders)


def is_same_text(pair: Pair) -> bool:
    """Nothing to compare; also where both are empty."""
    one, other = pair.answers
    return one.strip() == other.strip() and pair.a[:-1] == pair.b[:-1]


def question_of(pair: Pair, order: Position) -> Question:
    return Question(pair.a, pair.b) if order == "a_first" else Question(pair.b, pair.a)


def judge_pairs(
    judge: Judge,
    pairs: Sequence[Pair],
    *,
    cache: OpinionCache | None = None,
    accept_failures: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> list[Judgment]:
    """Ask a judge about every pair; opinions go to the cache as they come, so that a killed process goes on from there.

    Args:
        judge: whom to ask.
        pairs: what about.
        cache: None keeps nothing.
        accept_failures: record questions that got no answer as no verdict, instead of stopping.
        progress: called with the number of opinions that came.

    Returns:
        One judgment a pair, in their order.

    Raises:
        JudgeError: questions without an answer; the judge changed its name on the way; or as the judge says. What came
            is in the cache.
    """
    settings, agenda = judge.settings, plan(judge, pairs, cache)
    opinions: dict[str, Opinion | Failure] = dict(agenda.known)
    names = {o.model for o in agenda.known.values()}
    _one_name(names)
    todo, in_a_row = agenda.todo, 0
    with closing(judge.opinions([agenda.asked[key] for key in todo])) as incoming:  # type: ignore[type-var]
        for index, opinion in incoming:
            opinions[todo[index]] = opinion
            if isinstance(opinion, Opinion):
                if cache is not None and judge.cacheable:
                    cache.put(todo[index], opinion)
                names.add(opinion.model)
                _one_name(names)
            in_a_row = in_a_row + 1 if isinstance(opinion, Failure) else 0
            if in_a_row >= ROW_OF_FAILURES and not accept_failures:
                break
            if progress is not None:
                progress(1)
    if not accept_failures:
        _no_failures(opinions, agenda)

    def given(pair: Pair) -> dict[Position, Opinion | Failure]:
        if is_same_text(pair):
            return {}
        return {o: opinions[question_key(settings, question_of(pair, o))] for o in agenda.orders}

    return [Judgment(pair, given(pair)) for pair in pairs]


def _one_name(names: set[str]) -> None:
    if len(names) > 1:
        raise JudgeError(
            f"the judge answered under {len(names)} names ({', '.join(sorted(names))}): it was exchanged between the "
            "questions. Verdicts of two judges are not mixed; pin one version with --model and start again."
        )


def _no_failures(opinions: dict[str, Opinion | Failure], agenda: Plan) -> None:
    reasons = Counter(o.reason for o in opinions.values() if isinstance(o, Failure))
    missing = sum(isinstance(opinions.get(key), Failure | None) for key in agenda.asked)
    if missing:
        reason, n = reasons.most_common(1)[0]
        raise JudgeError(
            f"{missing} of {len(agenda.asked)} questions got no answer; {n} of them: {shorten(reason, 300)}. No "
            f"verdict was written. The {len(agenda.asked) - missing} answers that came are kept: the same command "
            "again goes on from there, and --accept-failures records the others as no verdict."
        )
