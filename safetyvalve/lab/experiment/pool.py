"""The pool: answers of the reference policy with the gold's scores, for all seeds, and its division for one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from safetyvalve.data import (
    Comparison,
    Message,
    PreferenceExample,
    Prompt,
    Response,
    load_preferences,
    response_id,
    save_preferences,
    split_by_opening,
)
from safetyvalve.errors import DataError, RunError, UsageError
from safetyvalve.generation import PoolSettings, draw_pool, ready_prompts
from safetyvalve.hashing import content_hash
from safetyvalve.lab.experiment.gold import Gold, check_alive
from safetyvalve.lab.experiment.settings import GOLD_FILE, LabSettings
from safetyvalve.lab.experiment.stages import Row, by_id, stage
from safetyvalve.models import load_model
from safetyvalve.training import Progress
from safetyvalve.trees import weights_hash

__all__ = [
    "Division",
    "Pool",
    "divide",
    "make_pool",
    "ordered_pairs",
    "prompt_id",
    "read_pool",
    "save_divided",
]


POOL_FILE = "pool.jsonl"


class Pool(NamedTuple):
    """Answers by prompt, and their scores by id."""

    prompts: dict[str, Prompt]
    """By id: those with two distinct answers that the gold tells apart."""
    rows: list[Row]
    """All answers, in the order of the file."""
    gold: dict[str, float | None]
    """By ``response_id``; None is unscored."""
    set_aside: int
    """Prompts whose answers the gold does not tell apart."""

    @property
    def spread(self) -> float:
        """Standard deviation of the gold over the scored answers."""
        return float(np.std([s for r in self.rows if (s := self.gold[r["response_id"]]) is not None]))

    @property
    def unscored(self) -> int:
        """Answers without a score of the gold."""
        return sum(self.gold[r["response_id"]] is None for r in self.rows)

    def answers(self, prompt: str) -> list[Row]:
        """All answers to a prompt."""
        return [r for r in self.rows if r["prompt_id"] == prompt]

    def distinct(self, prompt: str) -> list[Row]:
        """The answers to a prompt that can be compared: scored, not empty, each text once."""
        kept = {r["response"]: r for r in reversed(self.answers(prompt)) if self.gold[r["response_id"]] is not None}
        return [r for r in self.answers(prompt) if r["response"] and kept.get(r["response"]) is r]


class Division(NamedTuple):
    """Ids of a seed's prompts."""

    train: list[str]
    held_out: list[str]


def prompt_id(prompt: Sequence[Message]) -> str:
    """Content hash of a prompt."""
    return content_hash([[m.role, m.content] for m in prompt])


def make_pool(folder: Path, settings: LabSettings, prompts: Sequence[Prompt], gold: Gold, progress: Progress) -> Pool:
    """Sample the pool and have the gold score it, or read what was made before.

    Raises:
        DataError: a gold that orders nothing, or leaves most answers without a score.
    """

    def answers() -> list[Row]:
        return _sampled(drawn, settings, prompts, progress)

    def scores() -> list[Row]:
        unique = {r["response_id"]: r for r in rows}
        given = gold.scores([_prompt(r) for r in unique.values()], [r["response"] for r in unique.values()])
        check_alive(gold.record["name"], given)
        return [{"response_id": name, "gold": score} for name, score in zip(unique, given, strict=True)]

    drawn = folder / "pool.drawn.jsonl"
    rows = stage(folder / POOL_FILE, answers)
    drawn.unlink(missing_ok=True)
    stage(folder / GOLD_FILE, scores)
    pool = read_pool(folder)
    progress.line(
        f"gold '{gold.record['name']}': {pool.unscored} of {len(rows)} answers unscored, {pool.set_aside} prompts set "
        "aside whose answers it does not tell apart"
    )
    return pool


def read_pool(folder: Path) -> Pool:
    """The pool that :func:`make_pool` left.

    Raises:
        RunError: it is not finished.
        DataError: answers without a row in the gold's file.
    """
    for name in (POOL_FILE, GOLD_FILE):
        if not (folder / name).is_file():
            raise RunError(f"'{folder}' has no {name} yet. Go on with `safetyvalve lab run`.")
    rows, file = stage(folder / POOL_FILE, list), folder / GOLD_FILE
    scored = by_id(stage(file, list), [r["response_id"] for r in rows], file)
    pool = Pool({}, rows, {name: row["gold"] for name, row in scored.items()}, 0)
    everything = {r["prompt_id"]: _prompt(r) for r in rows}
    usable = {name: p for name, p in everything.items() if _told_apart(pool, name)}
    return pool._replace(prompts=usable, set_aside=len(everything) - len(usable))


def _told_apart(pool: Pool, prompt: str) -> bool:
    return len({pool.gold[r["response_id"]] for r in pool.distinct(prompt)}) > 1


def choose_prompts(settings: LabSettings, prompts: Sequence[Prompt]) -> list[Prompt]:
    """As many as asked for, by a seeded hash.

    Raises:
        UsageError: fewer prompts than the settings ask for.
    """
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < settings.prompts:
        raise UsageError(
            f"there are {len(distinct)} distinct prompts where {settings.prompts} are asked for. Lower prompts "
            "(--prompts), or give a file with more (--prompt-file)."
        )
    return sorted(distinct, key=lambda p: content_hash([settings.pool_seed, prompt_id(p)]))[: settings.prompts]


def _sampled(drawn: Path, settings: LabSettings, prompts: Sequence[Prompt], progress: Progress) -> list[Row]:
    """Draw the pool batch by batch into ``drawn``, which a killed process goes on with."""
    model, tokenizer = load_model(settings.model)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    ready = ready_prompts([(p, None) for p in prompts], model, tokenizer, max_new_tokens=settings.max_new_tokens)
    how = PoolSettings(
        settings.model,
        weights_hash(model),
        settings.samples,
        settings.max_new_tokens,
        seed=settings.pool_seed,
        precision=settings.precision,
    )
    total = settings.samples * len(prompts)
    with tqdm(total=total, desc="pool", unit="answer", file=sys.stderr, disable=not progress.enabled) as bar:
        draw_pool(drawn, ready, model, tokenizer, how, progress=lambda done, _: bar.update(done - bar.n) and None)
    place = {r.id: i for i, r in enumerate(ready)}
    rows = []
    for line in sorted(stage(drawn, list), key=lambda row: (place[row["prompt_id"]], row["sample"])):
        prompt, text = ready[place[line["prompt_id"]]].prompt, line["response"].strip()
        rows.append(
            {
                "prompt_id": prompt_id(prompt),
                "response_id": response_id(prompt, text),
                "sample": line["sample"],
                "prompt": [m.model_dump() for m in prompt],
                "response": text,
                "tokens": line["tokens"],
                "finished": line["finished"],
            }
        )
    return rows


def _prompt(row: Row) -> Prompt:
    return tuple(Message(**m) for m in row["prompt"])


def divide(pool: Pool, settings: LabSettings, seed: int) -> Division:
    """The prompts that a seed learns from, and those that it measures on.

    Raises:
        DataError: too few prompts are left to learn from.
    """
    examples = {name: _example(pool, name, pool.distinct(name)[:2], [(0, 1)]) for name in pool.prompts}
    names = {e.id: name for name, e in examples.items()}
    split = split_by_opening(list(examples.values()), held_out=settings.held_out, seed=seed)
    return Division([names[e.id] for e in split.train], [names[e.id] for e in split.held_out])


def save_divided(
    file: Path,
    pool: Pool,
    division: Division,
    compared: dict[str, tuple[list[Row], list[tuple[int, int]]]],
    settings: LabSettings,
    seed: int,
) -> None:
    """Write comparisons for a run that holds out the division's prompts by the same rule.

    Args:
        file: to write; it is there when it is whole.
        pool: gives the prompts.
        division: of the seed.
        compared: answers and (winner, loser) by prompt id; all held-out prompts are needed.
        settings, seed: of the split.

    Raises:
        DataError: a held-out prompt has no comparison, or one would be trained on.
    """
    examples = [_example(pool, name, rows, pairs) for name, (rows, pairs) in compared.items() if pairs]
    if not file.is_file():
        save_preferences(examples, file)
    split = split_by_opening(load_preferences(file).examples, held_out=settings.held_out, seed=seed)
    if {prompt_id(e.prompt) for e in split.held_out} != set(division.held_out):
        raise DataError(
            f"lacks comparisons for some of the {len(division.held_out)} prompts to measure on; one at least for each "
            "is needed. A proxy without scores, or one that gives all answers the same, does that.",
            file=file,
        )


def _example(pool: Pool, prompt: str, rows: Sequence[Row], pairs: Sequence[tuple[int, int]]) -> PreferenceExample:
    return PreferenceExample(
        prompt=pool.prompts[prompt],
        responses=tuple(Response(content=r["response"]) for r in rows),
        comparisons=tuple(Comparison(winner=w, loser=v) for w, v in pairs),
    )


def ordered_pairs(scores: Sequence[float | None]) -> list[tuple[int, int]]:
    """(higher, lower) of all pairs with scores that differ."""
    places: list[tuple[int, Any]] = [(i, s) for i, s in enumerate(scores) if s is not None]
    return [(i, j) if a > b else (j, i) for x, (i, a) in enumerate(places) for j, b in places[x + 1 :] if a != b]
