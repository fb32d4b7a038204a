"""The reference cache answers only what it was asked before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetyvalve.trees import ReferenceCache, Tree, reference, response_logps, weights_hash
from safetyvalve.trees.decoder import own_layers
from tests.tiny import random_tree, tiny_model

TREES = [random_tree(11, 7, 9, seed=1), random_tree(4, 6, seed=2), random_tree(30, 2, 2, 2, seed=3)]


def ask(cache: ReferenceCache, seed: int = 0, trees: list[Tree] = TREES, **changes: object) -> list[torch.Tensor]:
    settings = {"engine": "tree", "token_budget": 40, **changes}
    return cache.sums(tiny_model(seed=seed), trees, **settings)


def test_values_and_order(tmp_path: Path) -> None:
    got = ask(ReferenceCache(tmp_path))
    expected = response_logps(tiny_model(), TREES).sums().split([2, 1, 3])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-5)


def test_second_time_from_disk(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    first = ask(cache)
    assert not cache.hit
    again = ask(ReferenceCache(tmp_path)), ask(cache)
    assert cache.hit
    for a, b in zip(first, again[1], strict=True):
        assert torch.equal(a, b)


def test_holds_says_what_would_be_found(tmp_path: Path) -> None:
    cache, model = ReferenceCache(tmp_path), tiny_model()
    assert not cache.holds(model, TREES, engine="tree")
    ask(cache)
    assert cache.holds(model, TREES, engine="tree")
    assert not cache.holds(model, TREES, engine="padded")
    assert not cache.holds(model, TREES, engine="tree", autocast=torch.bfloat16)
    assert not cache.holds(tiny_model(seed=1), TREES, engine="tree")
    assert not ReferenceCache(None).holds(model, TREES, engine="tree")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"trees": [*TREES[:2], Tree(TREES[2].prompt_ids, (*TREES[2].response_ids[:2], (1, 2)))]},
        {"trees": [TREES[1], TREES[0], TREES[2]]},
        {"autocast": torch.bfloat16},
        {"engine": "padded"},
    ],
)
def test_what_changes_the_numbers_is_computed_again(tmp_path: Path, change: dict[str, object]) -> None:
    cache = ReferenceCache(tmp_path)
    ask(cache)
    ask(cache, **change)
    assert not cache.hit


def test_a_damaged_entry_is_computed_again(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    first = ask(cache)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:40])
    again = ask(cache)
    assert not cache.hit
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_the_budget_is_no_part_of_the_key(tmp_path: Path) -> None:
    """It changes nothing but rounding in the last digit."""
    cache = ReferenceCache(tmp_path)
    ask(cache)
    ask(cache, token_budget=1000)
    assert cache.hit


def test_weights_hash_sees_one_changed_weight() -> None:
    model, other = tiny_model(), tiny_model()
    assert weights_hash(model) == weights_hash(other)
    with torch.no_grad():
        next(iter(other.parameters())).view(-1)[0] += 1e-3
    assert weights_hash(model) != weights_hash(other)


def test_layers_written_out_and_own_are_two_entries(tmp_path: Path) -> None:
    """They round differently; a policy with an adapter is compared with what its own layers gave."""
    cache = ReferenceCache(tmp_path)
    ask(cache)
    with own_layers():
        assert not cache.holds(tiny_model(), TREES, engine="tree")
        ask(cache)
        assert not cache.hit


def test_what_was_compared_is_remembered(tmp_path: Path) -> None:
    """With the numbers that it was said of, and no others."""
    cache, model = ReferenceCache(tmp_path), tiny_model()
    assert cache.compared(model, TREES) is None
    ask(cache)
    assert cache.compared(model, TREES) is None
    ask(cache, trees=TREES[:2], compared="equal within 1e-5")
    assert cache.compared(model, TREES[:2]) == "equal within 1e-5"
    assert cache.compared(model, TREES) is None
    assert cache.compared(model, TREES[:2], autocast=torch.bfloat16) is None
    assert cache.compared(tiny_model(seed=1), TREES[:2]) is None
    assert ReferenceCache(None).compared(model, TREES[:2]) is None
    (with_words,) = (f for f in tmp_path.iterdir() if b"1e-5" in f.read_bytes())
    with_words.write_bytes(b"damaged")
    assert cache.compared(model, TREES[:2]) is None


def test_other_code_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReferenceCache(tmp_path)
    ask(cache, compared="equal")
    monkeypatch.setattr(reference, "_source", lambda: b"changed")
    assert cache.compared(tiny_model(), TREES) is None
    ask(cache)
    assert not cache.hit


def test_code_that_came_with_a_model_is_compared_each_time(tmp_path: Path) -> None:
    """The same weights may belong to another forward tomorrow."""
    cache, model = ReferenceCache(tmp_path), tiny_model()
    ask(cache, compared="equal")
    assert cache.compared(model, TREES) == "equal"
    model.__class__ = type("Custom", (type(model),), {"__module__": "transformers_modules.custom"})
    assert cache.compared(model, TREES) is None
