"""Sampling: where an answer ends, what is random, what is left untouched."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from safetyvalve.errors import UsageError
from safetyvalve.generation import sample
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [(5, 6, 7), (9,), tuple(range(30))]


def draw(**changes: Any) -> list[Any]:
    settings = {"n": 2, "max_new_tokens": 6, "seed": 0, **changes}
    return sample(tiny_model(), tiny_tokenizer(), PROMPTS, **settings)


def test_order_and_count() -> None:
    assert [s.prompt_index for s in draw()] == [0, 0, 1, 1, 2, 2]


def test_seeded_and_the_global_generator_is_left_alone() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    before = torch.random.get_rng_state()
    one = sample(model, tokenizer, PROMPTS, max_new_tokens=6)
    assert torch.equal(before, torch.random.get_rng_state())
    assert one == sample(model, tokenizer, PROMPTS, max_new_tokens=6)
    assert one != sample(model, tokenizer, PROMPTS, max_new_tokens=6, seed=1)


def test_an_answer_ends_at_its_first_end_token() -> None:
    """The pad token equals the end token: what follows the first one is padding, and no end token is lost."""
    end = tiny_tokenizer().eos_token_id
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[end] = 0.0  # about one token in 260, as every other at a flat distribution
        model.lm_head.weight *= 0.001
    answers = sample(model, tiny_tokenizer(), [(1, 2)] * 40, n=4, max_new_tokens=64)
    finished = [s for s in answers if s.finished]
    assert 10 < len(finished) < 80  # expected 160 * (1 - (259/260)^64) = 35
    for s in answers:
        assert s.token_ids.count(end) == (1 if s.finished else 0)
        assert s.finished or len(s.token_ids) == 64
        assert not s.finished or s.token_ids[-1] == end
        assert "<|im_end|>" not in s.text


def test_samples_the_whole_distribution() -> None:
    """First tokens follow the model's probabilities: no top-k or top-p cuts the tail."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight *= 0.02
        p = model(torch.tensor([[1, 2, 3]])).logits[0, -1].softmax(-1)
    answers = sample(model, tiny_tokenizer(), [(1, 2, 3)], n=4000, max_new_tokens=1, token_budget=10**6)
    counts = Counter(s.token_ids[0] for s in answers)
    assert len(counts) > 200  # top-k 50 would give 50
    got = torch.tensor([counts[i] / 4000 for i in range(260)])
    assert float((got - p).abs().sum() / 2) < 0.15  # total variation; sampling noise alone gives about 0.1


def test_padding_on_the_left_changes_nothing() -> None:
    """A short prompt beside a long one gives what it gives alone, greedily."""
    alone = sample(tiny_model(), tiny_tokenizer(), [PROMPTS[1]], max_new_tokens=8, temperature=1e-4)
    beside = sample(tiny_model(), tiny_tokenizer(), PROMPTS, max_new_tokens=8, temperature=1e-4)
    assert beside[1].token_ids == alone[0].token_ids


def test_settings_that_ship_with_a_model_are_not_used() -> None:
    """A repetition penalty or a cut-off would sample another distribution than the model's own."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight *= 0.001
    model.generation_config.typical_p = 0.5
    model.generation_config.repetition_penalty = 1.5
    model.generation_config.do_sample = True
    answers = sample(model, tiny_tokenizer(), [(1, 2, 3)], n=2000, max_new_tokens=1, token_budget=10**6)
    assert len({s.token_ids[0] for s in answers}) > 240
    assert model.generation_config.typical_p == 0.5


def test_mode_is_restored() -> None:
    model = tiny_model().train()
    sample(model, tiny_tokenizer(), PROMPTS, max_new_tokens=2)
    assert model.training


@pytest.mark.parametrize("bad", [{"n": 0}, {"max_new_tokens": 0}, {"token_budget": 0}, {"temperature": 0.0}])
def test_refusals(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(UsageError, match=f"{name} is 0"):
        draw(**bad)


def test_frozen_weights_stay_frozen() -> None:
    """Under autocast they ask for a gradient while answers are drawn, so that their casts are kept; not afterwards."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.lm_head.weight.requires_grad = False
    before = [p.requires_grad for p in model.parameters()]
    seen: list[bool] = []
    model.register_forward_pre_hook(lambda *_: seen.append(all(p.requires_grad for p in model.parameters())))
    whole = sample(model, tokenizer, [[1, 2, 3]], n=2, max_new_tokens=3, autocast=torch.bfloat16)
    assert seen and all(seen)
    assert [p.requires_grad for p in model.parameters()] == before
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(True)
    assert sample(model, tokenizer, [[1, 2, 3]], n=2, max_new_tokens=3, autocast=torch.bfloat16) == whole
