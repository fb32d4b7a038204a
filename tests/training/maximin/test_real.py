"""The game on SmolLM2 for a few steps: both players move, neither runs away. docs/maximin.md has 50 steps."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors.torch import load_file

from safetyvalve.data import Message
from safetyvalve.lab.quickstart.rubric import score_answers
from safetyvalve.rewards import load_reward
from safetyvalve.training import (
    Algorithm,
    Checkpointing,
    DataSource,
    FineTuning,
    Objective,
    Observation,
    Optimization,
    RunSettings,
    run_training,
)
from safetyvalve.training.reward import RewardSettings, train_reward

pytestmark = pytest.mark.slow

STEPS = 5


def test_the_game(tmp_path: Path) -> None:
    """KL, reward and losses stay bounded, the KL begins at 0, and reward and policy are models of their own."""
    text = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl").read_text(encoding="utf-8")
    data = tmp_path / "pairs.jsonl"
    with data.open("w", encoding="utf-8") as stream:
        for row in map(json.loads, text.splitlines()[:40]):
            first = row["comparisons"][0]
            pair = {"prompt": row["prompt"], "chosen": row["responses"][first["winner"]]}
            stream.write(json.dumps(pair | {"rejected": row["responses"][first["loser"]]}) + "\n")
    source = DataSource(data, held_out=12)
    train_reward(
        RewardSettings(
            name="start",
            version="1",
            source=source,
            optimization=Optimization(steps=3, prompts_per_step=4, learning_rate=2e-5, token_budget=2048),
        ),
        tmp_path / "start",
    )
    settings = RunSettings(
        name="game",
        source=source,
        algorithm=Algorithm(
            "maximin",
            reward=str(tmp_path / "start"),
            adversary_eta=0.2,
            policy_samples=4,
            policy_max_tokens=16,
            reward_learning_rate=2e-5,
        ),
        objective=Objective("maximin", beta=0.05),
        optimization=Optimization(steps=STEPS, prompts_per_step=1, learning_rate=2e-4, token_budget=2048),
        fine_tuning=FineTuning("lora"),
        observation=Observation(every=STEPS, held_out_examples=4, prompts=2, samples_per_prompt=1, max_new_tokens=16),
        checkpointing=Checkpointing(0),
        scorer="quickstart-rubric",
    )
    run_training(settings, tmp_path / "game", scorer=score_answers)
    rows = [json.loads(line) for line in (tmp_path / "game" / "metrics.jsonl").read_text().splitlines()]
    steps = [m for m in rows if m["kind"] == "train"]
    assert [m["step"] for m in steps] == list(range(1, STEPS + 1))
    assert steps[0]["kl_k1"] == pytest.approx(0.0, abs=0.1)  # bf16
    for m in steps:
        assert all(math.isfinite(v) for v in m.values() if isinstance(v, float)), m
        assert abs(m["kl_k1"]) < 20
        assert abs(m["policy_reward"]) < 20
        assert 0 < m["reward_preference_loss"] < 4
    adapter = load_file(tmp_path / "game" / "model" / "adapter_model.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)
    before, after = (load_file(tmp_path / place / "model.safetensors") for place in ("start/model", "game/reward"))
    assert any(not before[name].equal(after[name]) for name in before)
    answers = [["A short answer.", "Another one, a little longer."]]
    scored = [load_reward(str(tmp_path / place)) for place in ("start", "game/reward")]
    prompt = [(Message(role="user", content="What is the capital of Japan?"),)]
    one, other = (reward.score(prompt, answers)[0].members for reward in scored)
    assert abs(one - other).max() > 0
