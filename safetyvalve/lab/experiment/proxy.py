"""The proxy: an ensemble that learns from few of the gold's labels, and what it says of answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.data import Prompt
from safetyvalve.errors import DataError
from safetyvalve.lab.experiment.gold import score_members
from safetyvalve.lab.experiment.pool import Division, Pool, ordered_pairs, save_divided
from safetyvalve.lab.experiment.settings import LabSettings
from safetyvalve.lab.experiment.stages import Row, by_id, stage
from safetyvalve.precision import autocast_of
from safetyvalve.rewards import RewardModel, aggregate, load_reward
from safetyvalve.training import DataSource, ModelSource, Optimization, Progress
from safetyvalve.training.reward import Ensemble, RewardSettings, Uncertainty, train_reward

__all__ = ["PROXY_FILE", "Accuracy", "Proxy", "accuracy", "learn_proxy", "read_proxy", "run_folder"]

PROXY_FILE = "proxy.jsonl"

Floats = NDArray[np.float64]


class Proxy:
    """A trained proxy; the model is loaded when something is to be scored.

    Args:
        folder: of its run.
        settings: of the experiment.
        members: scores of the pool's answers, by ``response_id``; None is unscored.
    """

    def __init__(self, folder: Path, settings: LabSettings, members: dict[str, list[float] | None]) -> None:
        self.folder, self.settings, self.members = folder, settings, members
        self._model: RewardModel | None = None

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[list[float] | None]:
        """Each answer's rewards by the members."""
        self._model = self._model or load_reward(str(self.folder))
        return listed(score_members(self._model, prompts, answers, autocast=autocast_of(self.settings.precision)))

    def aggregated(self, method: str, members: Sequence[list[float] | None]) -> list[float | None]:
        """``mean`` or ``pessimistic`` of each answer's rewards."""
        formula = "mean" if method == "mean" else self.settings.pessimism
        return [
            None if m is None else float(aggregate(np.array(m)[:, None], formula, k=self.settings.k)[0])
            for m in members
        ]


def listed(members: Floats) -> list[list[float] | None]:
    """From [member, answer] to a list an answer; None where there is no score."""
    return [None if np.isnan(column).any() else [float(v) for v in column] for column in members.T]


def learn_proxy(
    folder: Path, settings: LabSettings, pool: Pool, division: Division, seed: int, progress: Progress
) -> Proxy:
    """Draw the labels, train on them and score the pool, or read what was made before."""
    labels = folder / "labels.jsonl"
    compared = _labelled(pool, division, settings, seed)
    save_divided(labels, pool, division, compared, settings, seed)
    run = folder / "proxy"

    def train(resume: bool) -> None:
        train_reward(_settings(settings, labels, seed), run, progress=progress, resume=resume)

    run_folder(run, train)
    proxy = Proxy(run, settings, {})

    def scores() -> list[Row]:
        unique = {r["response_id"]: r for r in pool.rows if r["prompt_id"] in pool.prompts}
        given = proxy.score(
            [pool.prompts[r["prompt_id"]] for r in unique.values()], [r["response"] for r in unique.values()]
        )
        return [{"response_id": name, "members": members} for name, members in zip(unique, given, strict=True)]

    stage(folder / PROXY_FILE, scores)
    return read_proxy(folder, settings, pool)


def read_proxy(folder: Path, settings: LabSettings, pool: Pool) -> Proxy:
    """The proxy that :func:`learn_proxy` left in a seed's folder, whose scores of the pool are there.

    Raises:
        DataError: an answer of the pool without a row.
    """
    file = folder / PROXY_FILE
    wanted = [r["response_id"] for r in pool.rows if r["prompt_id"] in pool.prompts]
    found = by_id(stage(file, list), wanted, file)
    return Proxy(folder / "proxy", settings, {name: row["members"] for name, row in found.items()})


def run_folder(run: Path, train: Callable[[bool], object]) -> None:
    """Train in ``run``, told whether to resume; nothing where it is finished."""
    if (run / "model").is_dir():
        return
    resume = (run / "config.yaml").is_file()
    if run.exists() and not resume:  # stopped before its settings were written: nothing was computed
        shutil.rmtree(run)
    train(resume)


def _labelled(
    pool: Pool, division: Division, settings: LabSettings, seed: int
) -> dict[str, tuple[list[Row], list[tuple[int, int]]]]:
    """Comparisons by prompt: noisy ones to learn from, and for held-out prompts one each, without noise, to measure."""
    draw = np.random.default_rng([seed, 1])
    offered: dict[str, list[tuple[int, int]]] = {}
    for name in division.train:
        pairs = list(combinations(range(len(pool.distinct(name))), 2))
        offered[name] = [pairs[i] for i in draw.permutation(len(pairs))]
    total = sum(map(len, offered.values()))
    if total < settings.labels:
        raise DataError(
            f"the training prompts have {total} pairs of answers, fewer than the {settings.labels} labels asked for. "
            "Lower --labels, or draw more answers."
        )
    taken: dict[str, list[tuple[int, int]]] = {}
    order = [division.train[i] for i in draw.permutation(len(division.train))]
    while (left := settings.labels - sum(map(len, taken.values()))) > 0:
        for name in [n for n in order if offered[n]][:left]:
            taken.setdefault(name, []).append(offered[name].pop())
    result = {name: _noisy(pool, name, pairs, settings.label_scale, draw) for name, pairs in taken.items()}
    for name in division.held_out:
        rows = pool.distinct(name)
        result[name] = _kept(rows, ordered_pairs([pool.gold[r["response_id"]] for r in rows])[:1])
    return result


def _noisy(
    pool: Pool, prompt: str, pairs: list[tuple[int, int]], scale: float, draw: np.random.Generator
) -> tuple[list[Row], list[tuple[int, int]]]:
    """Who wins is drawn from the Bradley-Terry model of the gold, in units of its standard deviation."""
    rows = pool.distinct(prompt)
    gold = [float(pool.gold[r["response_id"]] or 0.0) for r in rows]  # those without a score are not among them
    won = [draw.random() < 1 / (1 + np.exp(-scale * (gold[a] - gold[b]) / pool.spread)) for a, b in pairs]
    return _kept(rows, [(a, b) if w else (b, a) for (a, b), w in zip(pairs, won, strict=True)])


def _kept(rows: list[Row], pairs: list[tuple[int, int]]) -> tuple[list[Row], list[tuple[int, int]]]:
    """Only the answers that are compared."""
    used = sorted({i for pair in pairs for i in pair})
    return [rows[i] for i in used], [(used.index(a), used.index(b)) for a, b in pairs]


def _settings(settings: LabSettings, labels: Path, seed: int) -> RewardSettings:
    return RewardSettings(
        name=f"proxy-{seed}",
        source=DataSource(labels, held_out=settings.held_out, split_seed=seed),
        model=ModelSource(settings.model),
        ensemble=Ensemble(settings.members, "heads", "bootstrap"),
        uncertainty=Uncertainty("none"),
        optimization=Optimization(
            steps=settings.proxy_steps,
            prompts_per_step=min(8, settings.labels // 2),
            learning_rate=settings.proxy_rate,
            precision=settings.precision,
            seed=seed,
        ),
        eval_every=settings.proxy_steps,
        held_out_examples=settings.held_out,
    )


class Accuracy(NamedTuple):
    """How often an aggregation orders two answers to a held-out prompt as the gold does."""

    share: float
    pairs: int


def accuracy(pool: Pool, proxy: Proxy, division: Division, method: str) -> Accuracy:
    """Over all pairs of the pool's answers to held-out prompts that the gold tells apart; NaN where there are none."""
    right = []
    for name in division.held_out:
        rows = pool.distinct(name)
        scores = proxy.aggregated(method, [proxy.members[r["response_id"]] for r in rows])
        for i, j in ordered_pairs([pool.gold[r["response_id"]] for r in rows]):
            a, b = scores[i], scores[j]
            if a is not None and b is not None:
                right.append(float(a > b) if a != b else 0.5)
    return Accuracy(float(np.mean(right)) if right else float("nan"), len(right))
