"""Run folders made in code, with a chosen course of the independent score and of the learned reward."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "model": "smollm2-135m",
    "data": "quickstart",
    "objective": "dpo",
    "beta": 0.05,
    "eta": 0.0,
    "steps": 40,
    "seed": 0,
    "learning_rate": 5e-5,
    "max_new_tokens": 64,
    "samples_per_prompt": 2,
    "scorer": "quickstart-rubric",
}
STEPS = (0, 10, 20, 30, 40)
SETTINGS = {
    "parity_margin": 1.386,
    "effective_token_weight": 0.01,
    "mean_chosen_length": 57.25,
    "peers": [{"trainer": "TRL", "setting": "loss_weights=[1.0,0.5725], beta=0.05", "differs": "a token mean"}],
    "engine": {"engine": "tree", "reason": "equal to the padded forward within 1e-5"},
}
DATA_REPORT = {
    "file": "preferences.jsonl",
    "sha256": "ab" * 32,
    "form": "chosen/rejected",
    "rows": 500,
    "kept": 497,
    "dropped": [
        {"file": "preferences.jsonl", "row": 17, "reason": "no rejected response", "value": "{}"},
        {"file": "preferences.jsonl", "row": 18, "reason": "no rejected response", "value": "{}"},
        {"file": "preferences.jsonl", "row": 90, "reason": "not JSON", "value": "{"},
    ],
    "duplicates": 4,
    "comparisons": 497,
    "prompts_opening": 248,
    "longer_won": 0.618,
}
ENVIRONMENT = {
    "python": "3.11.2",
    "packages": {"torch": "2.11.0", "transformers": "5.20.0"},
    "cpu_cores": 2,
    "gpus": [],
    "seed": 0,
    "model_sha256": "cd" * 32,
}


def make_run(
    folder: Path,
    name: str | None,
    course: Sequence[float] | None,
    *,
    gains: Sequence[float] = (0.0, 0.4, 0.9, 1.3, 1.6),
    steps: Sequence[int] = STEPS,
    prompts: int = 24,
    noise: float = 0.12,
    first_prompt: int = 0,
    config: Mapping[str, Any] | None = None,
    responses: Mapping[str, str] | None = None,
    displacement: float = -12.0,
) -> Path:
    """Write a run.

    Args:
        folder: to make.
        name: in the configuration; None for none.
        course: mean independent score at each evaluation, or None for a run without a scorer.
        gains: learned reward at each evaluation.
        steps: of the evaluations.
        prompts: sampled at each, two answers each.
        noise: standard deviation of a score about the course.
        first_prompt: number of the first prompt, to make runs of other prompts.
        config: keys that replace the usual ones.
        responses: answers by prompt id that replace the usual ones.
        displacement: of the chosen responses at the end, nats; the rejected ones move twice as far.
    """
    folder.mkdir(parents=True)
    settings = (
        CONFIG | ({"name": name} if name else {}) | ({"scorer": None} if course is None else {}) | dict(config or {})
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    for file, value in (("settings", SETTINGS), ("data_report", DATA_REPORT), ("environment", ENVIRONMENT)):
        (folder / f"{file}.json").write_text(json.dumps(value), encoding="utf-8")
    draw = random.Random(f"{name} {folder.name}")
    lines: list[dict[str, Any]] = []
    for i, step in enumerate(steps):
        rows = [
            _row(p, k, step, None if course is None else course[i] + draw.gauss(0, noise), responses or {})
            for p in range(first_prompt, first_prompt + prompts)
            for k in range(2)
        ]
        write_lines(folder / "samples" / f"step-{step:06d}.jsonl", rows)
        lines.append(
            {
                "kind": "train",
                "step": max(step, 1),
                "loss": 3 - gains[i],
                "tokens_per_second": 500.0,
                "resident_gib": 6.5,
            }
        )
        lines.append(_evaluation(i / (len(steps) - 1), step, gains[i], displacement))
    write_lines(folder / "metrics.jsonl", lines)
    return folder


def write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(prompt: int, answer: int, step: int, score: float | None, responses: Mapping[str, str]) -> dict[str, Any]:
    probe = f"probe{prompt:03d}"
    return {
        "probe": probe,
        "prompt": [{"role": "user", "content": f"What is the {prompt}th thing to know about ducks?"}],
        "response": responses.get(
            probe, f"Answer {answer} at {step}: ducks stay dry because oil covers their feathers."
        ),
        "tokens": 40 + prompt % 5,
        "finished": prompt % 3 != 0,
        "repetition": 0.01,
        "kl": 0.2 * step,
        "log_ratio": 0.1 * step,
        "independent_score": score,
    }


def _evaluation(share: float, step: int, gain: float, displacement: float) -> dict[str, Any]:
    held_out = {
        "preference_loss": 0.693 - 0.1 * share,
        "sft_term": 0.0,
        "margin": 0.3 * share,
        "accuracy": 0.5 + 0.1 * share,
        "chosen_displacement": displacement * share,
        "chosen_displacement_per_token": displacement * share / 57,
        "rejected_displacement": 2 * displacement * share,
        "rejected_displacement_per_token": 2 * displacement * share / 57,
        "preference_grad_norm": 4.0 - share,
        "sft_grad_norm": 0.0,
    }
    samples = {"kl": 8 * share, "kl_se": 0.1, "length": 42.0, "repetition": 0.01, "eos_rate": 0.6}
    return (
        {"kind": "evaluation", "step": step, "resident_gib": 7.0, "seconds": 30.0 + step}
        | {f"held_out/{k}": v for k, v in held_out.items()}
        | {f"samples/{k}": v for k, v in samples.items()}
        | {"samples/implicit_reward_gain": gain}
    )
