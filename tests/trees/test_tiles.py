"""Tiles compute every allowed pair once, few others, and their attention is the plain one, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from safetyvalve.trees import head, kernel, pack_row, response_logps
from safetyvalve.trees import tiles as tiles_module
from safetyvalve.trees.kernel import attend
from safetyvalve.trees.plan import PackedRow, causal
from safetyvalve.trees.tiles import Tile, tiles
from tests.tiny import random_tree, tiny_model

SHAPES = {
    "small": (20, 30, 9),
    "pair": (145, 42, 51),
    "rankings": (60, *[64] * 16),
    "long prompt": (1500, 50, 50),
    "long responses": (10, 700, 300, 5),
}


def window(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return causal(batch, head, query, key) & (query - key < 40)


def computed(made: tuple[Tile, ...]) -> int:
    return sum(t.bias.numel() for t in made)


@pytest.mark.parametrize("rule", [causal, window])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_allowed_pair_once(shape: str, rule: tiles_module.PositionRule) -> None:
    prompt, *responses = SHAPES[shape]
    row = pack_row([random_tree(7, 3), random_tree(prompt, *responses)])
    segment = row.segments[1]
    seen = torch.zeros(len(row.input_ids), len(row.input_ids), dtype=torch.int64)
    for tile in tiles(segment, rule, torch.float32):
        columns = torch.cat([torch.arange(*r) for r in tile.keys])
        seen[tile.start : tile.stop, columns] += (tile.bias == 0).long()
    expected = torch.zeros_like(seen)
    expected[segment.start :, segment.start :] = segment.allowed(rule).long()
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(("shape", "share"), [("rankings", 0.25), ("long prompt", 0.62), ("long responses", 0.6)])
def test_cost_is_that_of_the_tree(shape: str, share: float) -> None:
    """Pairs computed, against the square of the tree."""
    prompt, *responses = SHAPES[shape]
    segment = pack_row([random_tree(prompt, *responses)]).segments[0]
    made = tiles(segment, causal, torch.float32)
    assert computed(made) < share * (segment.stop - segment.start) ** 2
    assert computed(made) < 2.5 * int(segment.allowed().sum())


@pytest.mark.parametrize("kept", [0, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_the_plain_ones(shape: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp64, six heads on two key heads, values of another width."""
    monkeypatch.setattr(kernel, "KEPT_TOKENS", kept)
    prompt, *responses = SHAPES[shape]
    row = pack_row([random_tree(prompt, *responses), random_tree(5, 4)])
    torch.manual_seed(0)
    length = len(row.input_ids)
    sizes = ((6, length, 8), (2, length, 8), (2, length, 4))
    states = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    out = attend(*states, tuple(tiles(s, causal, torch.float64) for s in row.segments), 0.3)
    plain = scaled_dot_product_attention(
        *(s[None] for s in states), attn_mask=whole_mask(row), scale=0.3, enable_gqa=True
    )[0].transpose(0, 1)
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-12)
    weight = torch.randn_like(plain)
    ours, theirs = (torch.autograd.grad((o * weight).sum(), states) for o in (out, plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def whole_mask(row: PackedRow) -> torch.Tensor:
    mask = torch.zeros(len(row.input_ids), len(row.input_ids), dtype=torch.bool)
    for s in row.segments:
        mask[s.start : s.stop, s.start : s.stop] = s.allowed()
    return mask


@pytest.mark.parametrize("family", ["smollm3", "llama"])
def test_embedding_gradient_is_dense_in_the_end(family: str) -> None:
    """Rows are an inner matter: optimizers get what they always got, also where the head has a matrix of its own."""
    model = tiny_model(family)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == (family == "smollm3")
    trees = [random_tree(9, 4, 6), random_tree(3, 2)]
    grads = {}
    for engine in ("tree", "padded"):
        model.zero_grad()
        for _ in range(2):  # micro-batches add up
            response_logps(model, trees, engine=engine).sums().sum().backward()
        grad = model.get_input_embeddings().weight.grad
        assert grad is not None and not grad.is_sparse
        grads[engine] = grad.clone()
    torch.testing.assert_close(grads["tree"], grads["padded"], rtol=1e-4, atol=1e-5)
    assert not model.get_input_embeddings().sparse


@pytest.mark.parametrize("limit", [0, 2**28])
def test_head_alone(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities kept or computed again: as log_softmax, with gradients of hidden states and matrix."""
    monkeypatch.setattr(head, "KEPT_BYTES", limit)
    model = tiny_model("llama")
    matrix = model.get_output_embeddings().weight
    hidden = torch.randn(23, matrix.shape[1], requires_grad=True)
    target = torch.randint(0, len(matrix), (23,))
    ours = head.response_token_logps(model, hidden, target, chunk=5)
    plain = (hidden @ matrix.t()).log_softmax(-1).gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(ours, plain)
    weight = torch.randn(23)
    pairs = zip(*(torch.autograd.grad((o * weight).sum(), [hidden, matrix]) for o in (ours, plain)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
