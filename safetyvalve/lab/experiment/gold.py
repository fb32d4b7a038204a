"""The gold: what plays the true preference. It labels a few comparisons, and afterwards scores what came of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from safetyvalve.data import Prompt
from safetyvalve.errors import DataError, SafetyValveError, UsageError, shorten
from safetyvalve.rewards import RewardModel, aggregate

__all__ = ["Gold", "check_alive", "model_gold", "score_members", "scorer_gold"]

Floats = NDArray[np.float64]
MOST_UNSCORED = 0.5
"""Largest share of the pool that a gold may leave without a score."""


class Gold(NamedTuple):
    """A gold with its name for the record."""

    record: Mapping[str, Any]
    """``name``, and what is known of its accuracy."""
    scores: Callable[[Sequence[Prompt], Sequence[str]], list[float | None]]
    """A score an answer; None is unscored."""


def scorer_gold(name: str, function: Callable[[list[str], list[str]], Sequence[float]]) -> Gold:
    """Of a function ``(prompts, answers) -> scores``, prompts as their last turn; NaN and infinity are unscored."""

    def scores(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float | None]:
        try:
            given = [float(s) for s in function([p[-1].content for p in prompts], list(answers))]
        except SafetyValveError:
            raise
        except Exception as error:  # a function of somebody else's
            raise UsageError(
                f"the gold '{name}' failed on {len(answers)} answers: {type(error).__name__}: {shorten(str(error))}. "
                "A function (prompts, answers) that gives a number for each answer is accepted."
            ) from error
        if len(given) != len(answers):
            raise UsageError(
                f"the gold '{name}' gave {len(given)} scores for {len(answers)} answers; one each is accepted."
            )
        return [s if math.isfinite(s) else None for s in given]

    return Gold({"name": name, "accuracy": None}, scores)


def model_gold(folder: str, model: RewardModel) -> Gold:
    """Of a reward model: its own aggregation, and the accuracy on held-out comparisons that its run recorded."""
    formula = model.record.aggregation if model.record else None

    def scores(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float | None]:
        given = score_members(model, prompts, answers)
        method, k = (formula.method, formula.k) if formula else ("mean", 1.0)
        return [None if math.isnan(s) else float(s) for s in aggregate(given, method, k=k)]

    record = {"name": folder, "accuracy": _recorded_accuracy(Path(folder))}
    if model.record:
        record |= {"version": model.record.version, "weights_sha256": model.record.weights_sha256}
    return Gold(record, scores)


def score_members(
    model: RewardModel, prompts: Sequence[Prompt], answers: Sequence[str], *, autocast: torch.dtype | None = None
) -> Floats:
    """[member, answer], NaN where there is no score; answers to one prompt are computed together, equal ones once."""
    places: dict[Prompt, dict[str, list[int]]] = {}
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        places.setdefault(prompt, {}).setdefault(answer, []).append(i)
    result = np.full((model.members, len(answers)), np.nan)
    found = model.score(list(places), [list(texts) for texts in places.values()], autocast=autocast)
    for one, texts in zip(found, places.values(), strict=True):
        for column, where in enumerate(texts.values()):
            result[:, where] = one.members[:, [column]]
    return result


def check_alive(name: object, scores: Sequence[float | None]) -> None:
    """Raises DataError for a gold that orders nothing, or leaves most answers without a score."""
    known = [s for s in scores if s is not None]
    if len(known) < (1 - MOST_UNSCORED) * len(scores) or not known:
        raise DataError(
            f"the gold '{name}' scored {len(known)} of {len(scores)} answers of the pool; at least half is accepted. "
            "Look at what it says of the answers in pool.jsonl, mend it, and run again: the pool is kept."
        )
    if min(known) == max(known):
        raise DataError(
            f"the gold '{name}' gave all {len(known)} answers of the pool the score {known[0]:g}, so that it prefers "
            "nothing. Use a gold that tells answers apart; the pool is kept."
        )


def _recorded_accuracy(folder: Path) -> float | None:
    """Of the last measurement of the run that the model lies in."""
    for place in (folder / "metrics.jsonl", folder.parent / "metrics.jsonl"):
        if place.is_file():
            lines = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
            values = [m["held_out/accuracy"] for m in lines if "held_out/accuracy" in m]
            return float(values[-1]) if values else None
    return None
