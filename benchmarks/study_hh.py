"""The study behind docs/study-hh.md: DPO, RPO and SFT on human comparisons, chosen on validation, reported on test.

    python benchmarks/study_hh.py DATA FOLDER            # DATA: hh-rlhf's harmless-base test split, test.jsonl.gz

Finished runs in FOLDER are kept and not repeated, so the study can be stopped and started. Writes
docs/study-hh/runs.csv (validation, every run) and docs/study-hh/test.json (the chosen cells).

Fixed in advance: the grid, the split by opening turn, and the rule. Every cell runs with the first seed; the best of
each method runs with the others, and only that is measured on test. "Best" is the margin's mean over its standard
deviation across validation pairs: the continuous form of accuracy, and indifferent to beta.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from safetyvalve.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch  # noqa: E402
from linear_reward import LinearReward  # noqa: E402
from transformers import PreTrainedModel, PreTrainedTokenizerBase  # noqa: E402

from safetyvalve.data import (  # noqa: E402
    PreferenceExample,
    TokenizedExample,
    load_preferences,
    split_by_opening,
    tokenize_examples,
)
from safetyvalve.encoders import load_encoder  # noqa: E402
from safetyvalve.models import cache_folder, load_model  # noqa: E402
from safetyvalve.stats import mean_interval  # noqa: E402
from safetyvalve.training import (  # noqa: E402
    Checkpointing,
    Forward,
    Objective,
    Observation,
    Optimization,
    Probe,
    Progress,
    RunFolder,
    SampleMeter,
    train_policy,
)
from safetyvalve.trees import ReferenceCache, Tree  # noqa: E402

TEST, VALIDATION, REWARD = 460, 200, 900
"""Pairs kept for the test, for choosing, and for the independent reward; the rest is trained on."""
SEEDS = (0, 1, 2)
STEPS, PAIRS = 60, 4
LEARNING_RATE = 5e-5
BUDGET = 2048
TESTED, PROBES = 230, 48
"""Pairs and prompts of the test part that are measured."""


class Cell(NamedTuple):
    """One point of the grid."""

    objective: str
    beta: float
    eta: float | None = None
    reduction: str | None = None

    @property
    def name(self) -> str:
        parts = [self.objective, f"beta{self.beta:g}"]
        parts += [f"eta{self.eta:g}"] if self.eta is not None else []
        return "-".join(parts + ([self.reduction] if self.reduction and self.objective == "rpo" else []))


GRID = {
    "dpo": [Cell("dpo", beta) for beta in (0.05, 0.2)],
    "rpo": [
        Cell("rpo", *values) for values in product((0.05, 0.2), (0.005, 0.05, 0.2, 1.0), ("sum", "batch_token_mean"))
    ],
    "sft": [Cell("sft", 0.1, None, "batch_token_mean")],
}
FOLLOWED = 1
"""Cells of each method that go on to the other seeds."""


class Parts(NamedTuple):
    """The data, divided by opening turn; tokens beside the text."""

    train: list[TokenizedExample]
    reward: list[PreferenceExample]
    validation: list[tuple[PreferenceExample, TokenizedExample]]
    test: list[tuple[PreferenceExample, TokenizedExample]]


def divide(data: Path, tokenizer: PreTrainedTokenizerBase) -> Parts:
    """Four parts that share no conversation."""
    examples = load_preferences(data).examples
    rest, test = split_by_opening(examples, held_out=TEST)
    rest, validation = split_by_opening(rest, held_out=VALIDATION, seed=1)
    train, reward = split_by_opening(rest, held_out=REWARD, seed=2)

    def tokens(part: Sequence[PreferenceExample]) -> list[TokenizedExample]:
        return tokenize_examples(part, tokenizer)[0]

    return Parts(
        tokens(train),
        reward,
        list(zip(validation, tokens(validation), strict=True)),
        list(zip(test, tokens(test), strict=True)),
    )


def log_ratios(
    policy: PreTrainedModel, reference: PreTrainedModel, examples: Sequence[TokenizedExample]
) -> dict[str, list[float]]:
    """log(policy / reference) of each pair's chosen and rejected response, in nats, with the chosen one's length."""
    trees = [Tree(e.prompt_ids, e.response_ids) for e in examples]
    cache = ReferenceCache(cache_folder() / "reference")
    settings: dict[str, Any] = {"engine": "tree", "token_budget": BUDGET, "autocast": torch.bfloat16}
    before = cache.sums(reference, trees, **settings)
    after = ReferenceCache(None).sums(policy, trees, **settings)
    result: dict[str, list[float]] = {"chosen": [], "rejected": [], "chosen_tokens": []}
    for example, old, new in zip(examples, before, after, strict=True):
        (pair,) = example.comparisons
        change = new - old
        result["chosen"].append(float(change[pair.winner]))
        result["rejected"].append(float(change[pair.loser]))
        result["chosen_tokens"].append(len(example.response_ids[pair.winner]))
    return result


def signal(ratios: dict[str, list[float]]) -> float:
    """Mean of the pairs' margins over their standard deviation."""
    margins = torch.tensor(ratios["chosen"]) - torch.tensor(ratios["rejected"])
    return float(margins.mean() / margins.std())


def run(folder: Path, cell: Cell, seed: int, parts: Parts, model_name: str, rate: float) -> dict[str, Any]:
    """Train one cell and measure it on validation, unless that stands there finished."""
    place = folder / f"{cell.name}-seed{seed}"
    done = place / "validation.json"
    if done.is_file():
        return dict(json.loads(done.read_text()))
    shutil.rmtree(place, ignore_errors=True)  # what an interrupted study left
    model, tokenizer = load_model(model_name)
    reference, _ = load_model(model_name)
    result = train_policy(
        model,
        tokenizer,
        parts.train,
        [],
        folder=RunFolder(place),
        objective=Objective(cell.objective, cell.beta, cell.eta, cell.reduction),  # type: ignore[arg-type]
        optimization=Optimization(
            precision="bf16", steps=STEPS, prompts_per_step=PAIRS, learning_rate=rate, token_budget=BUDGET, seed=seed
        ),
        observation=Observation(every=STEPS, held_out_examples=0, prompts=0),
        reference_cache=ReferenceCache(cache_folder() / "reference"),
        checkpointing=Checkpointing(0),
        progress=Progress(name=place.name),
    )
    ratios = log_ratios(model, reference, [t for _, t in parts.validation])
    steps = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    values = {
        "cell": cell._asdict(),
        "seed": seed,
        "signal": signal(ratios),
        "accuracy": mean(a > b for a, b in zip(ratios["chosen"], ratios["rejected"], strict=True)),
        "chosen_displacement": mean(ratios["chosen"]),
        "seconds": result.seconds,
        "peak_gib": max(s["resident_gib"] for s in steps),
    }
    done.write_text(json.dumps(values, indent=2))
    print(place.name, {k: round(v, 3) for k, v in values.items() if isinstance(v, float)}, flush=True)
    return values


def choose(folder: Path, parts: Parts, model_name: str, rate: float) -> tuple[list[dict[str, Any]], dict[str, Cell]]:
    """All runs, and the cell of each method that validation prefers."""
    runs: list[dict[str, Any]] = []
    chosen: dict[str, Cell] = {}
    for method, cells in GRID.items():
        first = {cell: run(folder, cell, SEEDS[0], parts, model_name, rate) for cell in cells}
        runs += first.values()
        followed = sorted(cells, key=lambda c: -first[c]["signal"])[:FOLLOWED]
        means = {}
        for cell in followed:
            others = [run(folder, cell, seed, parts, model_name, rate) for seed in SEEDS[1:]]
            runs += others
            means[cell] = mean(v["signal"] for v in (first[cell], *others))
        chosen[method] = max(means, key=lambda c: means[c])
    return runs, chosen


class Tested(NamedTuple):
    """One policy on the test part; lists are over pairs or over prompts, in one order for all policies."""

    correct: list[float]
    chosen: list[float]
    chosen_tokens: int
    scores: list[float]
    kl: float
    length: float
    eos_rate: float


def test(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parts: Parts,
    reward: LinearReward,
) -> Tested:
    """Human pairs, and the reward of sampled answers."""
    ratios = log_ratios(policy, reference, [t for _, t in parts.test[:TESTED]])
    probes = {t.prompt_ids: Probe.of(e, t) for e, t in parts.test}
    meter = SampleMeter(
        list(probes.values())[:PROBES],
        reference=reference,
        tokenizer=tokenizer,
        beta=1.0,
        n=1,
        max_new_tokens=64,
        seed=0,
        forward=Forward("tree", BUDGET, torch.bfloat16),
        scorer=reward,
    )
    values, records = meter.measure(policy)
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record["probe"], []).append(record["independent_score"])
    return Tested(
        [(a > b) + (a == b) / 2 for a, b in zip(ratios["chosen"], ratios["rejected"], strict=True)],
        ratios["chosen"],
        int(sum(ratios["chosen_tokens"])),
        [mean(s) for s in scores.values()],
        values["samples/kl"],
        values["samples/length"],
        values["samples/eos_rate"],
    )


def report(
    folder: Path, chosen: dict[str, Cell], runs: Sequence[dict[str, Any]], parts: Parts, model_name: str
) -> dict[str, Any]:
    """The chosen cells on test. Intervals: over seeds for what a method does, over pairs or prompts within a seed."""
    reference, tokenizer = load_model(model_name)
    reward = LinearReward(load_encoder(), parts.reward, [e for e, _ in parts.validation])
    start = test(reference, reference, tokenizer, parts, reward)
    accuracy = mean_interval(reward.correct([e for e, _ in parts.test]))
    result: dict[str, Any] = {
        "reward": {"ridge": reward.ridge, "test_accuracy": accuracy._asdict()},
        "start": {"score": mean(start.scores), "length": start.length, "eos_rate": start.eos_rate},
        "methods": {},
    }
    for method, cell in chosen.items():
        seeds = []
        for seed in SEEDS:
            policy, _ = load_model(str(folder / f"{cell.name}-seed{seed}" / "model"))
            seeds.append(test(policy, reference, tokenizer, parts, reward))
            del policy
        gains = [[b - a for a, b in zip(start.scores, s.scores, strict=True)] for s in seeds]
        mine = [r for r in runs if Cell(**r["cell"]) == cell]
        spread = {
            "accuracy": [mean(s.correct) for s in seeds],
            "chosen_displacement": [mean(s.chosen) for s in seeds],
            "chosen_displacement_per_token": [sum(s.chosen) / s.chosen_tokens for s in seeds],
            "kl": [s.kl for s in seeds],
            "score_gain": [mean(g) for g in gains],
            "length": [s.length for s in seeds],
            "eos_rate": [s.eos_rate for s in seeds],
            "seconds": [r["seconds"] for r in mine],
            "peak_gib": [r["peak_gib"] for r in mine],
        }
        result["methods"][method] = {
            "cell": cell._asdict(),
            "over_seeds": {name: {"values": v, "interval": mean_interval(v)._asdict()} for name, v in spread.items()},
            "accuracy_over_pairs": mean_interval(
                [mean(x) for x in zip(*(s.correct for s in seeds), strict=True)]
            )._asdict(),
            "score_gain_over_prompts": mean_interval([mean(x) for x in zip(*gains, strict=True)])._asdict(),
            "correct": [mean(x) for x in zip(*(s.correct for s in seeds), strict=True)],
            "gains": [mean(x) for x in zip(*gains, strict=True)],
        }
    methods = result["methods"]
    result["differences"] = {
        f"rpo - {other}": {
            what: mean_interval(
                [a - b for a, b in zip(methods["rpo"][field], methods[other][field], strict=True)]
            )._asdict()
            for what, field in (("accuracy", "correct"), ("score_gain", "gains"))
        }
        for other in ("dpo", "sft")
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--output", type=Path, default=Path("docs/study-hh"))
    options = parser.parse_args()
    _, tokenizer = load_model(options.model)
    parts = divide(options.data, tokenizer)
    print({name: len(part) for name, part in parts._asdict().items()}, flush=True)
    runs, chosen = choose(options.folder, parts, options.model, options.learning_rate)
    print({k: c.name for k, c in chosen.items()}, flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "runs.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, [*Cell._fields, *(k for k in runs[0] if k != "cell")])
        table.writeheader()
        table.writerows(run.pop("cell") | run for run in [dict(r) for r in runs])
    result = report(options.folder, chosen, runs, parts, options.model)
    (options.output / "test.json").write_text(json.dumps(result, indent=1) + "\n")
    for method, values in result["methods"].items():
        print(method, {k: round(v["interval"]["estimate"], 3) for k, v in values["over_seeds"].items()})


if __name__ == "__main__":
    main()
