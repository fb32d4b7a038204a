"""The measurement behind docs/maximin.md: does the adversary make the reward generalise to the policy's own answers?

    python benchmarks/maximin.py FOLDER                  # all seeds, then the tables
    python benchmarks/maximin.py FOLDER --seed 0         # one seed, say in a process of its own
    python benchmarks/maximin.py FOLDER --tables         # the tables of what is there

For each seed a reward model is trained on few of the quickstart's comparisons, one a prompt; then SmolLM2 plays
`--algorithm maximin` against it twice, with the adversary and with `--adversary-eta 0`, and everything else equal.
Afterwards three rewards (before the game, after it with and without the adversary) order answers of three policies
(the reference and the two trained ones) to held-out prompts, and the rubric that drew the comparisons says which order
is right.

Fixed in advance: all settings below, the seeds and the measure. Finished parts in FOLDER are kept and not repeated; a
run that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

from safetyvalve.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch  # noqa: E402

from safetyvalve.data import load_preferences, render_prompt, split_by_opening  # noqa: E402
from safetyvalve.generation import sample  # noqa: E402
from safetyvalve.lab.quickstart.rubric import score_answers  # noqa: E402
from safetyvalve.models import load_model  # noqa: E402
from safetyvalve.rewards import load_reward  # noqa: E402
from safetyvalve.stats import mean_interval  # noqa: E402
from safetyvalve.training import (  # noqa: E402
    Algorithm,
    Checkpointing,
    DataSource,
    FineTuning,
    Objective,
    Observation,
    Optimization,
    Progress,
    RunSettings,
    resume_training,
    run_training,
)
from safetyvalve.training.reward import RewardSettings, resume_reward, train_reward  # noqa: E402

SEEDS = (0, 1, 2)
HELD_OUT = 200
"""Of the 320 prompts; 120 are left to train on."""
REWARD = Optimization(
    precision="bf16", steps=15, prompts_per_step=6, learning_rate=2e-5, schedule="linear", token_budget=2048
)
STEPS, PROMPTS, BETA, RATE, REWARD_RATE = 50, 1, 0.05, 2e-4, 2e-5
SAMPLES, TOKENS = 4, 24
ARMS = {"with the adversary": 0.2, "without": 0.0}
"""By adversary_eta."""
MEASURED, ANSWERS = 40, 4
"""Held-out prompts, and answers of each policy to each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, action="append", help="this seed only; may be repeated")
    parser.add_argument("--tables", action="store_true", help="compute nothing, print the tables")
    options = parser.parse_args()
    if not options.tables:
        data = one_comparison_a_prompt(options.folder)
        for seed in options.seed or SEEDS:
            play(options.folder / f"seed-{seed}", data, seed)
    print("\n".join(tables(options.folder)))


def one_comparison_a_prompt(folder: Path) -> Path:
    """The quickstart's rows with their first comparison and the two responses that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    text = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl").read_text(encoding="utf-8")
    rows = []
    for row in map(json.loads, text.splitlines()):
        first = row["comparisons"][0]
        winner, loser = (row["responses"][first[side]] for side in ("winner", "loser"))
        rows.append({"prompt": row["prompt"], "chosen": winner, "rejected": loser})
    data = folder / "comparisons.jsonl"
    if not data.exists():
        data.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return data


def play(folder: Path, data: Path, seed: int) -> None:
    """Everything of one seed."""
    source = DataSource(data, held_out=HELD_OUT, split_seed=seed)
    reward = RewardSettings(
        name="start",
        version="1",
        source=source,
        optimization=_with_seed(REWARD, seed),
        held_out_examples=40,
        eval_every=15,
    )
    _run(
        folder / "start",
        lambda output: train_reward(reward, output, progress=Progress(name=output.name)),
        lambda output: resume_reward(output, progress=Progress(name=output.name)),
    )
    for arm, eta in ARMS.items():
        settings = _settings(arm, source, folder / "start", eta, seed)
        _run(
            folder / arm.split()[0],
            lambda output, s=settings: run_training(
                s, output, scorer=score_answers, progress=Progress(name=output.name)
            ),
            lambda output: resume_training(output, lambda name: score_answers, progress=Progress(name=output.name)),
        )
    if not (folder / "ordered.json").exists():
        (folder / "ordered.json").write_text(json.dumps(order(folder, data, seed)) + "\n")


def _run(output: Path, start: Callable[[Path], Any], go_on: Callable[[Path], Any]) -> None:
    if not (output / "model").exists():
        (go_on if (output / "config.yaml").exists() else start)(output)


def _with_seed(o: Optimization, seed: int) -> Optimization:
    return Optimization(**{**vars(o), "seed": seed})


def _settings(arm: str, source: DataSource, reward: Path, eta: float, seed: int) -> RunSettings:
    return RunSettings(
        name=arm,
        source=source,
        algorithm=Algorithm(
            "maximin",
            reward=str(reward),
            adversary_eta=eta,
            policy_samples=SAMPLES,
            policy_max_tokens=TOKENS,
            reward_learning_rate=REWARD_RATE,
        ),
        objective=Objective("maximin", beta=BETA),
        optimization=Optimization(
            precision="bf16", steps=STEPS, prompts_per_step=PROMPTS, learning_rate=RATE, token_budget=2048, seed=seed
        ),
        fine_tuning=FineTuning("lora"),
        observation=Observation(every=25, held_out_examples=8, prompts=16, samples_per_prompt=1, max_new_tokens=TOKENS),
        checkpointing=Checkpointing(25),
        scorer="quickstart-rubric",
    )


def order(folder: Path, data: Path, seed: int) -> dict[str, Any]:
    """Rubric and rewards of answers of each policy: [prompt][answer] by policy, then by who scored."""
    examples = split_by_opening(load_preferences(data).examples, held_out=HELD_OUT, seed=seed).held_out[:MEASURED]
    prompts = [e.prompt for e in examples]
    rewards = {
        "start": load_reward(str(folder / "start")),
        **{arm: load_reward(str(folder / arm.split()[0] / "reward")) for arm in ARMS},
    }
    result: dict[str, Any] = {}
    for policy, name in {
        "reference": "smollm2-135m",
        **{a: str(folder / a.split()[0] / "model") for a in ARMS},
    }.items():
        model, tokenizer = load_model(name)
        ids = [tuple(tokenizer(render_prompt(p, tokenizer), add_special_tokens=False)["input_ids"]) for p in prompts]
        drawn = sample(model, tokenizer, ids, n=ANSWERS, max_new_tokens=TOKENS, seed=seed, autocast=torch.bfloat16)
        texts = [[s.text for s in drawn if s.prompt_index == i] for i in range(len(prompts))]
        rubric = [score_answers([p[-1].content] * ANSWERS, t) for p, t in zip(prompts, texts, strict=True)]
        result[policy] = {"rubric": rubric}
        for who, reward in rewards.items():
            scores = reward.score(prompts, texts, autocast=torch.bfloat16)
            result[policy][who] = [s.members.mean(axis=0).tolist() for s in scores]
    return result


def accuracy(rubric: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> Iterator[tuple[int, float]]:
    """Of each prompt: pairs that the rubric does not hold equal, and the share that the reward orders alike; of equal
    rewards a half."""
    for truth, given in zip(rubric, scores, strict=True):
        pairs = [(i, j) for i, j in combinations(range(len(truth)), 2) if truth[i] != truth[j]]
        right = sum(
            0.5 if given[i] == given[j] else float((given[i] > given[j]) == (truth[i] > truth[j])) for i, j in pairs
        )
        if pairs:
            yield len(pairs), right / len(pairs)


def tables(folder: Path) -> Iterator[str]:
    """Markdown: how the games went, and how the rewards order answers."""
    found = sorted(folder.glob("seed-*"))
    yield "| seed | arm | KL | reward of its answers | rubric | reward loss | gap | grad norms (policy, reward) |"
    yield "|" + " --- |" * 8
    for place in found:
        for arm in ARMS:
            yield from _game_row(place, arm)
    yield ""
    yield "| answers of | reward | accuracy by seed | mean |"
    yield "|" + " --- |" * 4
    measured = [json.loads((p / "ordered.json").read_text()) for p in found if (p / "ordered.json").exists()]
    for policy in measured[0] if measured else ():
        for who in ("start", *ARMS):
            each = [mean_interval([a for _, a in accuracy(m[policy]["rubric"], m[policy][who])]) for m in measured]
            mean = sum(i.estimate for i in each) / len(each)
            shown = ", ".join(f"{i.estimate:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in each)
            yield f"| {policy} | {who} | {shown} | {mean:.3f} |"
    yield from _differences(measured)


def _game_row(place: Path, arm: str) -> Iterator[str]:
    file = place / arm.split()[0] / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    steps = [m for m in lines if m["kind"] == "train"]
    seen = [m for m in lines if m["kind"] == "evaluation"]
    if not steps or len(seen) < 2:
        return

    def path(rows: Sequence[dict[str, Any]], key: str, form: str = ".2f") -> str:
        values = [m[key] for m in rows if key in m]
        return f"{values[0]:{form}} → {values[-1]:{form}} ({min(values):{form}} to {max(values):{form}})"

    norms = " and ".join(f"{max(m[k] for m in steps):.1f}" for k in ("grad_norm", "reward_grad_norm"))
    yield (
        f"| {place.name[5:]} | {arm} | {path(seen, 'samples/kl')} | {path(seen, 'samples/proxy_reward')} | "
        f"{path(seen, 'samples/independent_score')} | {path(steps, 'reward_loss', '.3f')} | "
        f"{path(steps, 'adversarial_gap')} | at most {norms} |"
    )


def _differences(measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Paired by prompt, with the adversary less without, on the answers of each policy."""
    yield ""
    yield "| answers of | accuracy with the adversary less without, by seed | mean |"
    yield "|" + " --- |" * 3
    with_, without = ARMS
    for policy in measured[0] if measured else ():
        each = []
        for m in measured:
            pairs = zip(*(accuracy(m[policy]["rubric"], m[policy][arm]) for arm in (with_, without)), strict=True)
            each.append(mean_interval([a - b for (_, a), (_, b) in pairs]))
        shown = ", ".join(f"{i.estimate:+.3f} [{i.low:+.3f}, {i.high:+.3f}]" for i in each)
        yield f"| {policy} | {shown} | {sum(i.estimate for i in each) / len(each):+.3f} |"


if __name__ == "__main__":
    main()
