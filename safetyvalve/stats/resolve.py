"""From verdicts as given to the one verdict of each rater on each item that the comparisons use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from safetyvalve.stats.verdicts import SCORES, RaterKind, Verdict, VerdictValue

__all__ = ["Resolved", "resolve"]

MIRRORED: dict[VerdictValue, VerdictValue] = {"a": "b", "b": "a"}


class Resolved(NamedTuple):
    """One rater's verdict on one item; the models stand in alphabetical order."""

    item: str
    prompt: str
    model_a: str
    model_b: str
    verdict: VerdictValue
    rater: str
    kind: RaterKind
    length_a: int | None
    length_b: int | None
    orders: int
    """How many different orders of the answers were judged; 0 where none was recorded."""
    disagreed: bool
    """The orders (or repeats) of a judge gave different verdicts, which counts as a tie."""
    weight: float | None
    """One over the chance with which the item was drawn, if recorded."""

    @property
    def score(self) -> float | None:
        """What ``model_a`` won, ties and both bad as one half; nothing without a verdict."""
        return SCORES.get(self.verdict)


def resolve(verdicts: Iterable[Verdict]) -> list[Resolved]:
    """One entry a rater and item.

    Of people the first verdict counts that is one (later repeats measure self-consistency). Of judges, rubrics and
    reward models all records of an item are taken together: if one is no verdict there is none, if they differ, a tie.
    Gold items are left out.
    """
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if not verdict.gold:
            groups.setdefault((verdict.rater, verdict.item_id), []).append(verdict)
    return [_resolved(group) for group in groups.values()]


def oriented(verdict: Verdict) -> tuple[VerdictValue, bool]:
    """The verdict with the models in alphabetical order, and whether they had to be exchanged."""
    swapped = verdict.model_a > verdict.model_b
    return (MIRRORED.get(verdict.verdict, verdict.verdict) if swapped else verdict.verdict), swapped


def _resolved(group: list[Verdict]) -> Resolved:
    group = sorted(group, key=lambda v: v.repeat)
    values = [oriented(v)[0] for v in group]
    if group[0].rater_kind == "human":
        chosen = next((i for i, v in enumerate(values) if v != "none"), 0)
        value, disagreed = values[chosen], False
    else:
        chosen, disagreed = 0, len(set(values)) > 1 and "none" not in values
        value = "none" if "none" in values else "tie" if disagreed else values[0]
    record = group[chosen]
    swapped = oriented(record)[1]
    models = sorted((record.model_a, record.model_b))
    lengths = (record.length_b, record.length_a) if swapped else (record.length_a, record.length_b)
    chance = record.inclusion_probability
    return Resolved(
        record.item_id,
        record.prompt_id,
        models[0],
        models[1],
        value,
        record.rater,
        record.rater_kind,
        *lengths,
        len({v.position for v in group} - {None}),
        disagreed,
        None if chance is None else 1 / chance,
    )
