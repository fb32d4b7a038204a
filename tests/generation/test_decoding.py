"""Decoding: the same tokens as transformers' own loop, whatever the architecture and whatever shares the batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from safetyvalve.generation import sample
from safetyvalve.generation.decoding import decode, next_tokens
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [[5, 6, 7], [9], list(range(30)), [3, 4, 5, 6]]
END = 257


# One of each way to know a token's place, to hold its keys, and a model that keeps no keys.
@pytest.mark.parametrize(
    "family",
    ["llama", "gpt2", "opt", "mistral", "gemma3_text", "bloom", "falcon", "gpt_bigcode", "jamba", "mamba", "rwkv"],
)
def test_greedy_tokens_are_those_of_transformers(family: str) -> None:
    model = tiny_model(family)
    with torch.no_grad():
        got = decode(model, PROMPTS, torch.full((4, 2, 8), 0.5, dtype=torch.float64), end=END, temperature=1e-5)
        for i, prompt in enumerate(PROMPTS):
            ids = torch.tensor([prompt])
            wanted = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=8,
                do_sample=False,
                eos_token_id=END,
                pad_token_id=END,
            )
            assert got[2 * i] == got[2 * i + 1] == wanted[0, len(prompt) :].tolist()


def test_a_token_is_the_first_whose_cumulative_probability_exceeds_the_draw() -> None:
    logits = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).log().expand(5, 4)
    draws = torch.tensor([0.0, 0.199, 0.201, 0.699, 0.9999999], dtype=torch.float64)
    assert next_tokens(logits, draws, 1.0).tolist() == [0, 0, 2, 2, 3]


def test_temperature_sharpens() -> None:
    logits = torch.tensor([[0.6, 0.4]]).log()
    assert next_tokens(logits, torch.tensor([0.65], dtype=torch.float64), 1.0).item() == 1
    assert next_tokens(logits, torch.tensor([0.65], dtype=torch.float64), 0.1).item() == 0


def test_an_answer_does_not_depend_on_what_is_drawn_beside_it() -> None:
    """Its draws come from the seed, its prompt and its number: a pool that is drawn in two parts is the same pool."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    together = sample(model, tokenizer, PROMPTS, n=3, max_new_tokens=12)
    for i in (2, 0):
        alone = sample(model, tokenizer, [PROMPTS[i]], n=3, max_new_tokens=12)
        assert [s.token_ids for s in alone] == [s.token_ids for s in together if s.prompt_index == i]
    split = sample(model, tokenizer, PROMPTS, n=3, max_new_tokens=12, token_budget=30)
    assert split == together
    fewer = sample(model, tokenizer, PROMPTS, n=2, max_new_tokens=12)
    assert fewer == [s for s in together if s.number < 2]


def test_equal_prompts_are_drawn_apart() -> None:
    answers = sample(tiny_model(), tiny_tokenizer(), [(1, 2), (1, 2)], n=2, max_new_tokens=12)
    assert len({s.token_ids for s in answers}) == 4


def test_rows_that_ended_are_computed_no_more() -> None:
    model = tiny_model()
    end = tiny_tokenizer().eos_token_id
    with torch.no_grad():
        model.lm_head.weight.zero_()  # a flat distribution of which a hook makes the end one token in ten
    rows: list[int] = []

    def end_often(module: Any, given: Any, output: Any) -> None:
        rows.append(len(output.logits))
        output.logits[..., end] = math.log(260 / 9)

    model.register_forward_hook(end_often)
    answers = sample(model, tiny_tokenizer(), [(1, 2)] * 64, max_new_tokens=40)
    assert rows[0] == 64 and rows[10] < 40 and rows[-1] < 8
    assert sum(s.finished for s in answers) > 50
