"""Remake the shipped comparisons: ``python -m safetyvalve.lab.quickstart.make_data OUTPUT.jsonl``.

Samples four answers to every prompt from the base model, scores them with the rubric, and draws each of the six
comparisons once from the Bradley-Terry model of the scores. Exact bytes depend on the versions of torch and
transformers and on the processor, since sampling does; the recipe and the seed do not.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from itertools import combinations
from pathlib import Path

import torch

from safetyvalve.data import Message, render_prompt
from safetyvalve.generation import sample
from safetyvalve.lab.quickstart.rubric import load_prompts, rubric_score
from safetyvalve.models import load_model

ANSWERS = 4
MAX_NEW_TOKENS = 64
SCALE = 1.5
"""Bradley-Terry: P(a over b) = sigmoid(SCALE * (score a - score b)); about one comparison in four goes wrong."""


def make(output: Path, *, seed: int = 0) -> None:
    """Write one row a prompt: ``id``, ``prompt``, ``responses`` and ``comparisons``; the scores stay out."""
    model, tokenizer = load_model("smollm2-135m")
    prompts = load_prompts()
    token_ids = [
        tokenizer(render_prompt((Message(role="user", content=p.prompt),), tokenizer), add_special_tokens=False)[
            "input_ids"
        ]
        for p in prompts
    ]
    answers = sample(
        model, tokenizer, token_ids, n=ANSWERS, max_new_tokens=MAX_NEW_TOKENS, seed=seed, autocast=torch.bfloat16
    )
    draw = random.Random(seed)
    rows, wrong, total = [], 0, 0
    for index, prompt in enumerate(prompts):
        texts = [a.text.strip() for a in answers if a.prompt_index == index]
        texts = list(dict.fromkeys(t for t in texts if t))
        scores = [rubric_score(prompt.key_terms, t) for t in texts]
        comparisons = []
        for a, b in combinations(range(len(texts)), 2):
            a_wins = draw.random() < 1 / (1 + math.exp(-SCALE * (scores[a] - scores[b])))
            comparisons.append({"winner": a, "loser": b} if a_wins else {"winner": b, "loser": a})
            wrong += (scores[a] > scores[b]) != a_wins and scores[a] != scores[b]
            total += 1
        if comparisons:
            rows.append({"id": prompt.id, "prompt": prompt.prompt, "responses": texts, "comparisons": comparisons})
    output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{output}: {len(rows)} prompts, {total} comparisons, {wrong / total:.1%} against the rubric")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Remake the quickstart's comparisons.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.output, seed=arguments.seed)
