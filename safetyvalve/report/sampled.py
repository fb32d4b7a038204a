"""Which prompts a report shows and the answers to them side by side: chosen by a rule, not by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from safetyvalve.report.record import Answer, RunRecord

__all__ = ["Card", "Exhibit", "chosen_prompts", "exhibits"]

LIMIT = 12
"""Prompts that a report shows."""


class Card(NamedTuple):
    """One answer as it is shown."""

    run: str
    """Empty where the answer before training is the same in all runs."""
    step: int
    is_first: bool
    """Whether it is from the run's first evaluation."""
    answer: Answer | None
    """The first of the prompt's answers; None where the run has none at its last evaluation."""
    mean_score: float | None
    """Over all the prompt's answers at that evaluation."""
    n_answers: int


class Exhibit(NamedTuple):
    """A prompt with its answers."""

    prompt: tuple[tuple[str, str], ...]
    change: float | None
    """Score at the last evaluation minus the first, mean over the runs that have both."""
    cards: tuple[Card, ...]


def chosen_prompts(records: Sequence[RunRecord], limit: int = LIMIT) -> list[tuple[str, float | None]]:
    """Prompts to show with their change in score.

    Prompts are ordered by the change of their independent score between the first and the last evaluation, the mean
    over the runs, and taken at even distances, so that the largest rise and the largest fall are the ends. Without
    scores the order is that of the prompts' identifiers, which are content hashes and know nothing of the answers.

    Args:
        records: the runs.
        limit: most prompts, at least 2.
    """
    ordered: list[tuple[str, float | None]]
    changes = _changes(records)
    if changes:
        ordered = [(prompt, changes[prompt]) for prompt in sorted(changes, key=lambda p: (-changes[p], p))]
    else:
        known = {a.prompt_id for r in records if r.samples for a in r.samples[max(r.samples)]}
        ordered = [(prompt, None) for prompt in sorted(known)]
    if len(ordered) <= limit:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (limit - 1))] for i in range(limit)]


def exhibits(records: Sequence[RunRecord], limit: int = LIMIT) -> list[Exhibit]:
    """The chosen prompts with the answers before training and at the last evaluation of each run."""
    return [
        Exhibit(_prompt(records, prompt), change, (*_first_cards(records, prompt), *_last_cards(records, prompt)))
        for prompt, change in chosen_prompts(records, limit)
    ]


def _changes(records: Sequence[RunRecord]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        if len(record.samples) < 2:
            continue
        first, last = (record.by_prompt(step, "score") for step in (min(record.samples), max(record.samples)))
        for prompt in first.keys() & last.keys():
            found.setdefault(prompt, []).append(last[prompt] - first[prompt])
    return {prompt: sum(values) / len(values) for prompt, values in found.items()}


def _prompt(records: Sequence[RunRecord], prompt: str) -> tuple[tuple[str, str], ...]:
    return next(a.prompt for r in records for rows in r.samples.values() for a in rows if a.prompt_id == prompt)


def _first_cards(records: Sequence[RunRecord], prompt: str) -> list[Card]:
    """One card where every run began with the same answer, as runs of one seed and model do; else one a run."""
    cards = []
    for record in records:
        if len(record.samples) > 1:
            card = _card(record, min(record.samples), prompt, is_first=True)
            if card.answer is not None:
                cards.append(card)
    if len(cards) == len(records) and len({(c.answer.response if c.answer else "", c.step) for c in cards}) == 1:
        return [cards[0]._replace(run="")]
    return cards


def _last_cards(records: Sequence[RunRecord], prompt: str) -> list[Card]:
    return [_card(r, max(r.samples), prompt, is_first=False) for r in records if r.samples]


def _card(record: RunRecord, step: int, prompt: str, *, is_first: bool) -> Card:
    answers = [a for a in record.samples[step] if a.prompt_id == prompt]
    return Card(
        run=record.name,
        step=step,
        is_first=is_first,
        answer=answers[0] if answers else None,
        mean_score=record.by_prompt(step, "score").get(prompt),
        n_answers=len(answers),
    )
