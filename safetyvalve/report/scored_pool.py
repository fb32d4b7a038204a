"""A pool of samples with its scores, joined by response id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.report.record import json_lines, number

__all__ = ["PoolAnswer", "read_pool"]


class PoolAnswer(NamedTuple):
    """One sampled answer."""

    prompt_id: str
    response_id: str
    proxy: float | None
    """None is unscored."""
    score: float | None
    """Independent score."""


def read_pool(
    pool: Path, scores: Path | None = None, scorer: Callable[[list[str], list[str]], list[float]] | None = None
) -> list[PoolAnswer]:
    """Read a pool of `safetyvalve sample` with the scores of `safetyvalve reward score`.

    Args:
        pool: JSON lines with ``prompt_id``, ``response_id``, ``prompt`` and ``response``; ``proxy_reward`` and
            ``independent_score`` may stand in them.
        scores: JSON lines with ``response_id`` and ``reward``, or ``unscored``; None takes those of the pool.
        scorer: independent scorer of all answers; None takes what stands in the pool.

    Raises:
        DataError: a line without these fields, a response that the scores lack, or an id with two different scores.
        UsageError: the scorer does not give one number an answer.
    """
    rows, _ = json_lines(pool)
    for place, row in enumerate(rows, 1):
        if not isinstance(row.get("response"), str) or not row.get("prompt_id") or not row.get("response_id"):
            raise DataError(
                f"is {shorten(row)}; prompt_id, response_id and response are needed, as `safetyvalve sample` writes "
                "them.",
                file=pool,
                row=place,
            )
    rewards = None if scores is None else _rewards(scores)
    if rewards is not None and (lost := [r for r in rows if r["response_id"] not in rewards]):
        raise DataError(
            f"lacks {len(lost)} of the {len(rows)} answers of '{pool}' (the first: {lost[0]['response_id']}); scores "
            "of this pool are accepted. Score it with `safetyvalve reward score MODEL POOL`.",
            file=scores,
        )
    given = [number(row.get("independent_score")) for row in rows] if scorer is None else _scored(scorer, rows)
    return [
        PoolAnswer(
            str(row["prompt_id"]),
            str(row["response_id"]),
            number(row.get("proxy_reward")) if rewards is None else rewards[row["response_id"]],
            score,
        )
        for row, score in zip(rows, given, strict=True)
    ]


def _rewards(file: Path) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for place, row in enumerate(json_lines(file)[0], 1):
        name = row.get("response_id")
        if not isinstance(name, str) or not {"reward", "unscored"} & row.keys():
            raise DataError(
                f"is {shorten(row)}; response_id with reward, or with unscored, is accepted.", file=file, row=place
            )
        reward = number(row.get("reward"))
        if name in found and found[name] != reward:
            raise DataError(
                f"scores {name} a second time, as {reward} after {found[name]}; one score an answer is accepted. Score "
                "into a new file.",
                file=file,
                row=place,
            )
        found[name] = reward
    return found


def _scored(scorer: Callable[[list[str], list[str]], list[float]], rows: list[dict[str, Any]]) -> list[float | None]:
    given: Any = scorer([_question(row) for row in rows], [row["response"] for row in rows])
    try:
        values = [float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the scorer gave {shorten(given)} ({error}); it must give a number for each answer."
        ) from None
    if len(values) != len(rows):
        raise UsageError(f"the scorer gave {len(values)} scores for {len(rows)} answers; one each, in order.")
    return [number(value) for value in values]


def _question(row: Mapping[str, Any]) -> str:
    """The last turn."""
    prompt = row.get("prompt")
    turns = prompt if isinstance(prompt, list) else [{"content": prompt}]
    last = turns[-1] if turns else {}
    return str(last.get("content", "")) if isinstance(last, Mapping) else str(last)
