"""Whether the comparisons cover the baseline: without that, RPO's bound says nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from typing import NamedTuple, TypeVar

from safetyvalve.errors import UsageError

__all__ = ["MOST_UNCOVERED", "Coverage", "check_coverage", "measure_coverage"]

_Prompt = TypeVar("_Prompt", bound=Hashable)
_Response = TypeVar("_Response", bound=Hashable)

MOST_UNCOVERED = 0.01
"""Largest uncovered share of a baseline that needs no ``--allow-uncovered``."""


class Coverage(NamedTuple):
    """How much of a baseline's law the comparisons say nothing about.

    The coverage coefficient of arXiv 2405.16436, definition 5.2, is infinite as soon as the baseline puts weight on a
    response that no comparison names, because a reward can be moved there without being contradicted. If that weight is
    u and rewards lie in [0, R], such a reward moves the baseline's value by at most 2 u R against the covered part, and
    so much is added to the bound. So u is the statistic. A response counts as seen only where its very tokens (or text)
    were compared at the same prompt, as in the tabular theory: whether a model carries a reward from one answer to a
    similar one is not assumed.
    """

    uncovered: float
    """Share of the baseline's weight on responses that no comparison at their prompt names, in [0, 1]."""
    without_comparisons: float
    """The part of ``uncovered`` at prompts that have no comparison at all."""
    responses: int
    """Distinct responses of the baseline that were looked at."""


def measure_coverage(
    law: Iterable[tuple[_Prompt, _Response, float]], compared: Mapping[_Prompt, Set[_Response]]
) -> Coverage:
    """Measure a law given as (prompt, response, weight) against the compared responses of each prompt.

    A law without weight is covered.
    """
    total = unseen = alone = 0.0
    seen: set[tuple[_Prompt, _Response]] = set()
    for prompt, response, weight in law:
        total += weight
        seen.add((prompt, response))
        if prompt not in compared:
            alone += weight
        if response not in compared.get(prompt, ()):
            unseen += weight
    return Coverage(unseen / total, alone / total, len(seen)) if total else Coverage(0.0, 0.0, 0)


def check_coverage(found: Coverage, what: str, *, allowed: bool) -> str:
    """A line that says what was measured.

    Args:
        found: the measurement.
        what: the baseline, as a person calls it.
        allowed: whether more than :data:`MOST_UNCOVERED` is accepted.

    Raises:
        UsageError: more than that is uncovered and it is not allowed.
    """
    line = (
        f"baseline {what}: {found.uncovered:.1%} of its weight is on responses that no comparison names "
        f"({found.without_comparisons:.1%} at prompts without comparisons; {found.responses} responses looked at)"
    )
    if found.uncovered <= MOST_UNCOVERED:
        return line
    if not allowed:
        raise UsageError(
            f"{line}; at most {MOST_UNCOVERED:.0%} keeps RPO's guarantee (docs/baselines.md). Take --baseline chosen, "
            "have these responses compared, or go on without the guarantee by --allow-uncovered."
        )
    return line + "; allowed, and RPO's guarantee does not hold for this run"
