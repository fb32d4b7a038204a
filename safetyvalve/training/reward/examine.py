"""A reward model examined: on what its run held out, on other data, and on what a policy says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safetyvalve.data import Message, PreferenceExample
from safetyvalve.errors import DataError, UsageError
from safetyvalve.precision import autocast_of, settled
from safetyvalve.report import read_run
from safetyvalve.rewards import (
    Aggregation,
    Item,
    RewardModel,
    Votes,
    aggregate,
    distribution,
    ensemble_hash,
    evaluate_pairs,
    join_scores,
    load_reward,
    pairs_to_judge,
    read_scores,
    score_items,
    spread,
    staleness,
)
from safetyvalve.rewards.evaluation import ComparedPair, rank_correlation, said
from safetyvalve.rewards.folder import reward_folder
from safetyvalve.rewards.ledger import ScoreLine
from safetyvalve.rewards.scores import Floats
from safetyvalve.rewards.votes import without_training
from safetyvalve.stats import clustered_mean
from safetyvalve.training.reward.sources import (
    columns_of,
    held_out_of_run,
    items_of_examples,
    read_asked,
    settings_of_run,
    trained_ids,
)

__all__ = ["EVALUATION_FILE", "Examiner"]

EVALUATION_FILE = "evaluation.json"
LEAST_SAMPLES = 10
"""Samples with an independent score below which no correlation is given."""
Told = Callable[[int, int], None]


class _Columns(NamedTuple):
    """[response] of a set."""

    reward: Floats
    spread: Floats
    width: Floats | None


class Examiner:
    """Scores what it is asked about, once, and keeps what it finds in the reward model's folder.

    Args:
        name: the run, its model/ folder, or any reward model with a folder.
        precision: ``bf16`` or ``fp32`` arithmetic, or ``auto``, the faster one here.
        token_budget: tokens computed together.
        progress: told how many of how many responses of a set are done.

    Raises:
        SafetyValveError: there is no reward model.
    """

    def __init__(
        self, name: str, *, precision: str = "auto", token_budget: int = 4096, progress: Told | None = None
    ) -> None:
        folder = reward_folder(name) or Path(name)
        if not folder.is_dir():
            raise UsageError(f"'{name}' is no folder; a run of `safetyvalve reward train`, or its model/, is accepted.")
        self.model: RewardModel = load_reward(name)
        inside = folder.name == "model" and settings_of_run(folder.parent) is not None
        self.folder = folder.parent if inside else folder
        self.place = folder
        self.settings = settings_of_run(self.folder)
        self.aggregation = self.model.record.aggregation if self.model.record else Aggregation()
        self.autocast = autocast_of(precision)
        self.scores_file = self.folder / f"scores-{settled(precision)}.jsonl"
        self.token_budget, self.progress = token_budget, progress
        self._train: list[PreferenceExample] = []
        self._held_out: _Columns | None = None
        self.digest = ensemble_hash(self.model)

    def held_out(self, *, slice_by: Sequence[str] = ()) -> dict[str, Any]:
        """Everything about the comparisons that the run held out; columns of the data slice them further.

        Raises:
            UsageError: the folder is no run, so that nothing was held out.
        """
        if self.settings is None:
            raise UsageError(
                f"'{self.folder}' is no run of `safetyvalve reward train`, so that it is unknown what was held out. "
                "Name comparisons with --data."
            )
        self._train, examples = held_out_of_run(self.settings)
        source = self.settings.source
        columns = columns_of(str(source.data), slice_by, encoding=source.encoding)
        return self._compared(examples, columns, keep=True)

    def comparisons(self, source: str, *, slice_by: Sequence[str] = ()) -> dict[str, Any]:
        """The same for other data, or where they compare nothing the distribution of their rewards; with the share of
        responses that the model is less sure of than of nearly all held-out ones."""
        asked = read_asked(source)
        if asked.examples:
            return self._compared(asked.examples, columns_of(source, slice_by), keep=False)
        _, columns = self._score(asked.items)
        members, width = join_scores(read_scores(self.scores_file), _ids(asked.items))
        return {"responses": distribution(members, width, self.aggregation), "beyond": self._beyond(columns)}

    def samples(self, run: str) -> dict[str, Any]:
        """Rewards of a policy's samples, step by step, beside the independent score where the run has one."""
        record = read_run(run)
        if not record.samples:
            raise DataError(
                f"the run '{run}' sampled nothing, so that there is nothing to score. Name another --samples."
            )
        steps = {}
        for step, answers in sorted(record.samples.items()):
            items = [Item(tuple(Message(role=r, content=c) for r, c in a.prompt), a.response) for a in answers]  # type: ignore[arg-type]
            _, columns = self._score(items)
            known = np.isfinite(columns.reward)
            units = [a.prompt_id for a, fine in zip(answers, known, strict=True) if fine]
            if not units:
                continue
            golds = np.array([np.nan if a.score is None else a.score for a in answers])
            both = known & np.isfinite(golds)
            rank = rank_correlation(columns.reward[both], golds[both]) if both.sum() >= LEAST_SAMPLES else None
            steps[str(step)] = {
                "n": len(units),
                "unscored": int((~known).sum()),
                "reward": said(clustered_mean(columns.reward[known], units)),
                "spread": float(columns.spread[known].mean()),
                "width": None if columns.width is None else float(columns.width[known].mean()),
                "beyond": self._beyond(columns),
                "rank_correlation_with_independent_score": rank,
            }
        return steps

    def votes(self, votes: Votes, *, smallest_drop: float) -> dict[str, Any]:
        """Accuracy on newer votes of people against the held-out comparisons.

        Raises:
            DataError: no vote is left to compare with.
        """
        if self.settings is None:
            raise UsageError(f"'{self.folder}' is no run of `safetyvalve reward train`: nothing was held out.")
        self._train, held_out = held_out_of_run(self.settings)
        pairs, old = without_training(votes.pairs, trained_ids(self._train) | trained_ids(held_out))
        if not pairs:
            raise DataError(
                f"none of the {len(votes.pairs)} votes compares answers that the reward model has not been trained or "
                f"measured on ({dict(votes.left_out)} compare nothing). Give newer votes."
            )
        scored, _ = self._score([*votes.items, *items_of_examples(held_out)])
        new, unscored = self._margins(pairs, scored)
        before, _ = self._margins(pairs_to_judge(held_out), scored)
        if not len(new[0]):
            raise DataError(f"none of the {len(pairs)} newer votes has two scored answers. Look at {self.scores_file}.")
        found = staleness(new, before, smallest_drop=smallest_drop)
        return {
            "finding": found.finding,
            "new": said(found.new),
            "held_out": said(found.held_out),
            "change": said(found.change),
            "smallest_drop": smallest_drop,
            "votes": len(new[0]),
            "unscored": unscored,
            "known_before": old,
            "left_out": dict(votes.left_out),
        }

    def keep(self, found: dict[str, Any]) -> Path:
        """Add to ``evaluation.json``; what another model left there is replaced."""
        file = self.folder / EVALUATION_FILE
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if before.get("weights_sha256") != self.digest:
            before = {"weights_sha256": self.digest}
        for key, value in found.items():
            merges = isinstance(value, dict) and key in ("sets", "samples")
            before[key] = {**before.get(key, {}), **value} if merges else value
        partial = file.with_suffix(".tmp")
        partial.write_text(json.dumps(before, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        partial.replace(file)
        return file

    def _compared(
        self, examples: Sequence[PreferenceExample], columns: dict[tuple[str, int], dict[str, str]], *, keep: bool
    ) -> dict[str, Any]:
        scored, found = self._score(items_of_examples(examples))
        if keep:
            self._held_out = found
        values = evaluate_pairs(pairs_to_judge(examples, columns), scored, self.aggregation)
        return values if keep else {**values, "beyond": self._beyond(found)}

    def _score(self, items: Sequence[Item]) -> tuple[dict[str, ScoreLine], _Columns]:
        score_items(
            self.model,
            items,
            self.scores_file,
            token_budget=self.token_budget,
            autocast=self.autocast,
            progress=self.progress,
        )
        scored = read_scores(self.scores_file)
        members, width = join_scores(scored, [item.id for item in items])
        reward = aggregate(members, self.aggregation.method, k=self.aggregation.k)
        return scored, _Columns(reward, spread(members), width)

    def _margins(
        self, pairs: Sequence[ComparedPair], scored: dict[str, ScoreLine]
    ) -> tuple[tuple[Floats, list[str]], int]:
        """Finite margins with their clusters, and how many comparisons have an unscored response."""
        won, lost = (
            aggregate(
                join_scores(scored, [getattr(p, side) for p in pairs])[0], self.aggregation.method, k=self.aggregation.k
            )
            for side in ("winner", "loser")
        )
        known = np.isfinite(won - lost)
        clusters = [p.cluster for p, fine in zip(pairs, known, strict=True) if fine]
        return ((won - lost)[known], clusters), int((~known).sum())

    def _beyond(self, columns: _Columns) -> dict[str, float] | None:
        """Share of responses whose spread, or width, is above the 95% quantile of the held-out responses."""
        if self._held_out is None:
            return None
        shares = {}
        for name in ("spread", "width"):
            here, there = getattr(columns, name), getattr(self._held_out, name)
            if here is None or there is None or not np.nanmax(there) > 0:
                continue
            here, there = here[np.isfinite(here)], there[np.isfinite(there)]
            shares[name] = float((here > np.quantile(there, 0.95)).mean()) if len(here) else float("nan")
        return shares


def _ids(items: Sequence[Item]) -> list[str]:
    return list(dict.fromkeys(item.id for item in items))
