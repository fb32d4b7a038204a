"""Newer votes of people as comparisons: a verdict file with the answers it judged, or exported preference pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from safetyvalve.data import Prompt
from safetyvalve.errors import DataError
from safetyvalve.rewards.evaluation import ComparedPair
from safetyvalve.rewards.ledger import Item
from safetyvalve.stats import Verdict

__all__ = ["Votes", "votes_of_verdicts", "without_training"]


class Votes(NamedTuple):
    """Comparisons of people with the responses that they are about."""

    pairs: list[ComparedPair]
    items: list[Item]
    left_out: Mapping[str, int]
    """Votes that compare nothing, by reason."""


def votes_of_verdicts(
    verdicts: Iterable[Verdict], pairs: Mapping[str, tuple[str, str, Prompt, Prompt]], cluster: Callable[[str], str]
) -> Votes:
    """Join people's verdicts with the answers they are about, by item id.

    Args:
        verdicts: of people; those of judges, on gold items, ties and no verdicts are counted and left out.
        pairs: by item id, the two models and their conversations, each ending in the answer.
        cluster: from a prompt id to the unit that intervals count.

    Raises:
        DataError: a verdict on an item that is not among the pairs, or whose models are others.
    """
    compared: list[ComparedPair] = []
    items: dict[str, Item] = {}
    left: dict[str, int] = {}
    for verdict in verdicts:
        if reason := _nothing(verdict):
            left[reason] = left.get(reason, 0) + 1
            continue
        if verdict.item_id not in pairs:
            raise DataError(
                f"item {verdict.item_id} of a vote is not among the {len(pairs)} pairs of the answers; votes and "
                "answers are joined by item id. Name the answers that these people judged with --answers."
            )
        model_a, model_b, a, b = pairs[verdict.item_id]
        if {verdict.model_a, verdict.model_b} != {model_a, model_b}:
            raise DataError(
                f"item {verdict.item_id} is of {verdict.model_a} and {verdict.model_b} in the votes and of {model_a} "
                f"and {model_b} in the answers. Name the answers that these people judged with --answers."
            )
        a_won = (verdict.verdict == "a") == (verdict.model_a == model_a)
        won, lost = (a, b) if a_won else (b, a)
        names = []
        for conversation in (won, lost):
            item = Item(conversation[:-1], conversation[-1].content)
            items[item.id] = item
            names.append(item.id)
        lengths = len(won[-1].content), len(lost[-1].content)
        compared.append(ComparedPair(names[0], names[1], cluster(verdict.prompt_id), lengths, {}))
    return Votes(compared, list(items.values()), left)


def _nothing(verdict: Verdict) -> str | None:
    """Why a verdict compares nothing."""
    if verdict.rater_kind != "human":
        return f"of a {verdict.rater_kind}"
    if verdict.gold:
        return "on a test item"
    return None if verdict.verdict in ("a", "b") else verdict.verdict.replace("_", " ")


def without_training(pairs: Sequence[ComparedPair], trained: set[str]) -> tuple[list[ComparedPair], int]:
    """The comparisons whose two responses were not both trained on, and how many were: those are not new."""
    kept = [p for p in pairs if not {p.winner, p.loser} <= trained]
    return kept, len(pairs) - len(kept)
