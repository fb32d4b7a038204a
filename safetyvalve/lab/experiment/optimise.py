"""What is optimised against the proxy: best of n from the pool, and policies trained on answers that it ranked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.data import Message, response_id
from safetyvalve.diagnostics import best_of_n_kl, best_of_n_values
from safetyvalve.diagnostics.best_of_n import sizes_up_to
from safetyvalve.lab.experiment.gold import Gold
from safetyvalve.lab.experiment.pool import Division, Pool, ordered_pairs, prompt_id, save_divided
from safetyvalve.lab.experiment.proxy import Proxy, run_folder
from safetyvalve.lab.experiment.settings import BEST_OF_N, LabSettings
from safetyvalve.lab.experiment.stages import Row, stage
from safetyvalve.report.record import read_run
from safetyvalve.training import (
    DataSource,
    FineTuning,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    Progress,
    RunSettings,
    run_training,
)

__all__ = ["Point", "best_of_n_points", "policy_points", "scored_policy", "seen_by"]

Floats = NDArray[np.float64]


class Point(NamedTuple):
    """A method at one strength, on one seed's held-out prompts. Gains are over the mean of the pool's answers to the
    same prompt; NaN where no answer has a score."""

    method: str
    strength: int
    """n of best of n; optimizer steps of a policy."""
    prompts: list[str]
    kl: Floats
    """[prompt] nats; of best of n the bound ``log n - (n - 1) / n``."""
    gold: Floats
    """[prompt] gain of the gold."""
    proxy: Floats
    """[prompt] gain of what was optimised: the member, mean or pessimistic aggregation that the method takes."""
    unscored: int
    """Answers without a score of the gold or the proxy."""


def seen_by(method: str) -> str:
    """The aggregation that a method optimises."""
    return "pessimistic" if method.endswith("pessimistic") else "single" if method.endswith("single") else "mean"


def best_of_n_points(pool: Pool, proxy: Proxy, division: Division) -> list[Point]:
    """All sizes of the pool, by the unbiased estimator. Prompts left with fewer answers limit n for all."""
    rows = {name: pool.answers(name) for name in division.held_out}
    scored = {name: [r for r in rs if _both(pool, proxy, r)] for name, rs in rows.items()}
    unscored = sum(map(len, rows.values())) - sum(map(len, scored.values()))
    scored = {name: rs for name, rs in scored.items() if rs}
    names = list(scored)
    points = []
    for method in BEST_OF_N:
        for n in sizes_up_to(min(map(len, scored.values()), default=0)):
            gains = [_gains(pool, proxy, scored[name], method, n) for name in names]
            gold, seen = np.array(gains).T
            points.append(Point(method, n, names, np.full(len(names), best_of_n_kl(n)), gold, seen, unscored))
    return points


def _both(pool: Pool, proxy: Proxy, row: Row) -> bool:
    name = row["response_id"]
    return pool.gold[name] is not None and proxy.members[name] is not None


def _gains(pool: Pool, proxy: Proxy, rows: list[Row], method: str, n: int) -> tuple[float, float]:
    """Gains of gold and proxy, of the best of n answers to one prompt."""
    gold = [float(pool.gold[r["response_id"]] or 0.0) for r in rows]
    members = [proxy.members[r["response_id"]] for r in rows]
    how = seen_by(method)
    if how == "single":
        choosing = [[float(v) for v in one] for one in np.array(members, dtype=np.float64).T]
    else:
        choosing = [[float(s or 0.0) for s in proxy.aggregated(how, members)]]
    pairs = [(best_of_n_values(c, gold, n) - np.mean(gold), best_of_n_values(c, c, n) - np.mean(c)) for c in choosing]
    return float(np.mean([g for g, _ in pairs])), float(np.mean([p for _, p in pairs]))


def scored_policy(
    folder: Path,
    method: str,
    settings: LabSettings,
    pool: Pool,
    proxy: Proxy,
    division: Division,
    gold: Gold,
    seed: int,
    progress: Progress,
) -> list[Row]:
    """Train one policy and score its samples, or read what was made before."""
    how = seen_by(method)
    ranking = folder / f"ranked-{how}.jsonl"
    compared = {}
    for name in [*division.train, *division.held_out]:
        rows = pool.distinct(name)
        rows = rows if name in division.held_out else rows[: settings.answers]
        scores = proxy.aggregated(how, [proxy.members[r["response_id"]] for r in rows])
        pairs = ordered_pairs(scores)
        compared[name] = (rows, pairs[:1] if name in division.held_out else pairs)
    save_divided(ranking, pool, division, compared, settings, seed)
    run = folder / method

    def train(resume: bool) -> None:
        run_training(_settings(method, settings, ranking, seed), run, progress=progress, resume=resume)

    run_folder(run, train)

    def scores_of_samples() -> list[Row]:
        samples = [(step, answer) for step, answers in sorted(read_run(run).samples.items()) for answer in answers]
        prompts = [tuple(Message(role=r, content=c) for r, c in a.prompt) for _, a in samples]  # type: ignore[arg-type]
        texts = [a.response.strip() for _, a in samples]
        gold_scores = gold.scores(prompts, texts)
        members = proxy.score(prompts, texts)
        return [
            {
                "step": step,
                "prompt_id": prompt_id(prompt),
                "response_id": response_id(prompt, text),
                "response": text,
                "kl": answer.kl,
                "gold": g,
                "members": m,
            }
            for (step, answer), prompt, text, g, m in zip(samples, prompts, texts, gold_scores, members, strict=True)
        ]

    return stage(folder / f"{method}.jsonl", scores_of_samples)


def _settings(method: str, settings: LabSettings, ranking: Path, seed: int) -> RunSettings:
    rpo = method == "rpo"
    return RunSettings(
        name=f"{method}-{seed}",
        source=DataSource(ranking, held_out=settings.held_out, split_seed=seed),
        model=ModelSource(settings.model),
        objective=Objective("rpo", settings.beta, settings.eta) if rpo else Objective("dpo", settings.beta),
        optimization=Optimization(
            steps=settings.steps,
            prompts_per_step=settings.prompts_per_step,
            learning_rate=settings.learning_rate,
            precision=settings.precision,
            seed=seed,
        ),
        observation=Observation(
            every=max(1, settings.steps // settings.evaluations),
            held_out_examples=0,  # the ranking of held-out answers is no part of the experiment
            prompts=settings.held_out,
            samples_per_prompt=1,
            max_new_tokens=settings.max_new_tokens,
        ),
        fine_tuning=FineTuning(save_dtype="bf16"),
    )


def policy_points(method: str, rows: list[Row], pool: Pool, proxy: Proxy) -> list[Point]:
    """One point a measurement; a prompt's value is the mean over its answers."""
    how = seen_by(method)
    scores = proxy.aggregated(how, [r["members"] for r in rows])
    zero_gold, zero_proxy = _pool_means(pool, proxy, how)
    points = []
    for step in sorted({r["step"] for r in rows}):
        here = [(r, s) for r, s in zip(rows, scores, strict=True) if r["step"] == step]
        names = list(dict.fromkeys(r["prompt_id"] for r, _ in here))
        groups = {name: [(r, s) for r, s in here if r["prompt_id"] == name] for name in names}
        kl = [_mean([r["kl"] for r, _ in groups[name]]) for name in names]
        gold = [_mean([r["gold"] for r, _ in groups[name]]) - zero_gold[name] for name in names]
        seen = [_mean([s for _, s in groups[name]]) - zero_proxy[name] for name in names]
        unscored = sum(r["gold"] is None or s is None for r, s in here)
        points.append(Point(method, step, names, np.array(kl), np.array(gold), np.array(seen), unscored))
    return points


def _pool_means(pool: Pool, proxy: Proxy, how: str) -> tuple[dict[str, float], dict[str, float]]:
    """Mean gold and proxy of the reference's answers to each prompt."""
    gold, seen = {}, {}
    for name in pool.prompts:
        rows = pool.answers(name)
        gold[name] = _mean([pool.gold[r["response_id"]] for r in rows])
        seen[name] = _mean(proxy.aggregated(how, [proxy.members[r["response_id"]] for r in rows]))
    return gold, seen


def _mean(values: list[float | None]) -> float:
    """Over those that are there; NaN where none is."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else float("nan")
