"""What the votes say so far, for reviewers: by pair of sources and by annotator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.models import Annotator, Assignment, Batch, Correction, Item, Scan, Vote
from safetyvalve.hashing import digest
from safetyvalve.stats.verdicts import SCORES

__all__ = ["Judgment", "annotator_results", "batch_results", "judgments", "model_names", "source_name"]


class Judgment(NamedTuple):
    """The vote that holds for an assignment, with what it was about."""

    vote: Vote
    assignment: Assignment
    item: Item
    annotator: Annotator

    @property
    def counts(self) -> bool:
        """Towards the overlap: a first, timely vote on a regular item that was not withdrawn."""
        regular = self.assignment.kind == "regular" and self.item.kind == "regular" and not self.item.withdrawn
        return regular and self.assignment.slot is not None and self.assignment.state == "done"


def judgments(session: Session) -> list[Judgment]:
    """All of them, practice too, in the order of their votes."""
    newest = (
        select(Vote.assignment_id, func.max(Vote.revision).label("revision")).group_by(Vote.assignment_id).subquery()
    )
    rows = session.execute(
        select(Vote, Assignment, Item, Annotator)
        .join(newest, (Vote.assignment_id == newest.c.assignment_id) & (Vote.revision == newest.c.revision))
        .join(Assignment, Vote.assignment_id == Assignment.id)
        .join(Item, Vote.item_id == Item.id)
        .join(Annotator, Vote.annotator_id == Annotator.id)
        .order_by(Vote.created_at, Vote.id)
    )
    return [Judgment(*row) for row in rows]


def source_name(source: dict[str, Any]) -> str:
    """``run`` or ``run step 40``."""
    name = str(source.get("run", ""))
    return f"{name} step {source['step']}" if "step" in source else name


def model_names(item: Item) -> tuple[str, str]:
    """Names of the two sides, made distinct where one run gave both."""
    a, b = source_name(item.source_a) or "a", source_name(item.source_b) or "b"
    if a == b:
        return f"{a} #{item.source_a.get('sample', 0)}", f"{b} #{item.source_b.get('sample', 1)}"
    return a, b


def batch_results(session: Session, found: Sequence[Judgment]) -> list[dict[str, Any]]:
    """Figures of each batch."""
    results = []
    for batch in session.scalars(select(Batch).order_by(Batch.id)):
        mine = [j for j in found if j.item.batch_id == batch.id]
        counted = [j for j in mine if j.counts]
        live = (Item.batch_id == batch.id, Item.kind == "regular", ~Item.withdrawn)
        per_item: dict[str, int] = defaultdict(int)
        for j in counted:
            per_item[j.item.id] += 1
        edits = select(func.count(func.distinct(Correction.assignment_id))).join(Item).where(Item.batch_id == batch.id)
        results.append(
            {
                "name": batch.name,
                "n_items": session.scalar(select(func.count()).select_from(Item).where(*live)) or 0,
                "complete": sum(n >= batch.overlap for n in per_item.values()),
                "votes": len(counted),
                "agreement": _percent(_agreements(counted)),
                "consistency": _percent(_repeats(mine)),
                "corrections": session.scalar(edits) or 0,
                "equal": session.scalar(select(func.sum(Scan.equal)).where(Scan.batch_id == batch.id)) or 0,
                "rows": _pairs(counted),
            }
        )
    return results


def _pairs(counted: Sequence[Judgment]) -> list[dict[str, Any]]:
    from safetyvalve.stats import win_rate

    groups: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
    for j in counted:
        groups[model_names(j.item)].append(j)
    rows = []
    for (a, b), members in sorted(groups.items()):
        choices = [j.vote.choice for j in members]
        rate = win_rate([SCORES[c] for c in choices], [digest(j.item.prompt) for j in members])
        rows.append(
            {
                "pair": f"{a} : {b}",
                "wins": choices.count("a"),
                "losses": choices.count("b"),
                "ties": choices.count("tie"),
                "both_bad": choices.count("both_bad"),
                "rate": f"{rate.interval.estimate:.0%}",
                "interval": f"({rate.interval.low:.0%} – {rate.interval.high:.0%})",
                "prompts": rate.interval.n,
            }
        )
    return rows


def annotator_results(session: Session, found: Sequence[Judgment]) -> list[dict[str, Any]]:
    """Figures of each annotator who has judged, with notes on what to look at. Nothing is dropped for a note."""
    from scipy.stats import binomtest

    mine: dict[int, list[Judgment]] = defaultdict(list)
    for j in found:
        if j.vote.choice != "skip":
            mine[j.annotator.id].append(j)
    others: dict[str, list[Judgment]] = defaultdict(list)
    for j in found:
        if j.counts:
            others[j.item.id].append(j)
    results = []
    for members in mine.values():
        regular = [j for j in members if j.assignment.kind == "regular" and j.assignment.repeat == 0]
        decided = [j for j in members if j.vote.choice in ("a", "b") and j.assignment.kind == "regular"]
        first = sum((j.vote.choice == "a") is not j.vote.swapped for j in decided)
        gold = [j.vote.choice == j.item.expected for j in members if j.assignment.kind == "gold"]
        times = [j.vote.active_ms / 1000 for j in regular if j.vote.active_ms]
        with_others = [
            SCORES[j.vote.choice] == SCORES[o.vote.choice]
            for j in regular
            for o in others[j.item.id]
            if j.counts and o.annotator.id != j.annotator.id
        ]
        flags = []
        if len(decided) >= 10 and binomtest(first, len(decided)).pvalue < 0.01:
            flags.append("side")
        if len(gold) >= 5 and sum(gold) < 0.6 * len(gold):
            flags.append("gold")
        if len(times) >= 10 and median(times) < 3:
            flags.append("fast")
        results.append(
            {
                "name": members[0].annotator.name,
                "votes": len(regular),
                "side": f"{first} / {len(decided)}",
                "gold": f"{sum(gold)} / {len(gold)}",
                "consistency": _percent(_repeats(members)),
                "agreement": _percent(with_others),
                "seconds": f"{median(times):.0f}" if times else "–",
                "flags": flags,
            }
        )
    return sorted(results, key=lambda r: r["name"])


def _agreements(counted: Iterable[Judgment]) -> list[bool]:
    """Over pairs of annotators of one item; tie and both bad are one answer, as neither prefers."""
    by_item: dict[str, list[float]] = defaultdict(list)
    for j in counted:
        by_item[j.item.id].append(SCORES[j.vote.choice])
    return [x == y for scores in by_item.values() for x, y in combinations(scores, 2)]


def _repeats(members: Iterable[Judgment]) -> list[bool]:
    by_pair: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for j in members:
        if j.assignment.kind == "regular" and j.vote.choice != "skip":
            by_pair[j.item.id, j.annotator.id][j.assignment.repeat] = j.vote.choice
    return [SCORES[v[0]] == SCORES[v[1]] for v in by_pair.values() if {0, 1} <= v.keys()]


def _percent(values: Sequence[bool]) -> str:
    return f"{sum(values) / len(values):.0%} ({len(values)})" if values else "–"
