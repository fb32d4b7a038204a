"""The shared-prefix forward equals the plain one, and a wrong mask is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safetyvalve.trees import Tree, largest_difference, pack_row, response_logps
from safetyvalve.trees.forward import packed_hidden_states
from safetyvalve.trees.head import chunked_logps, logits_function
from safetyvalve.trees.plan import PackedRow, Segment
from tests.tiny import FAMILIES, random_tree, tiny_model

TREES = [
    random_tree(23, 17, 1, 30, seed=1),
    random_tree(1, 5, 12, seed=2),
    random_tree(40, 3, seed=3),
    random_tree(9, *[4 + i for i in range(16)], seed=4),
]


def gradients(model: torch.nn.Module, trees: list[Tree], engine: str) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logps = response_logps(model, trees, engine=engine)
    # Different weights a response: a gradient that lands on the wrong response shows.
    weights = torch.linspace(-1, 1, len(logps.lengths), dtype=logps.tokens.dtype)
    (logps.sums() * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
class TestParity:
    def test_logps_per_token(self, family: str) -> None:
        assert largest_difference(tiny_model(family), TREES) < 1e-5

    def test_gradients(self, family: str) -> None:
        model = tiny_model(family)
        tree, plain = gradients(model, TREES, "tree"), gradients(model, TREES, "padded")
        assert tree.keys() == plain.keys()
        scale = max(g.abs().max() for g in plain.values())
        for name in plain:
            assert (tree[name] - plain[name]).abs().max() < 1e-5 * scale, name

    def test_float64_is_equal_to_rounding(self, family: str) -> None:
        if family == "gemma2":
            pytest.skip("the plain Gemma 2 itself gives NaN in fp64: it takes its softmax in fp32 over an fp64 mask")
        assert largest_difference(tiny_model(family, dtype=torch.float64), TREES) < 1e-12

    def test_bf16_autocast_is_as_near_as_the_plain_forward_to_itself(self, family: str) -> None:
        """bf16 rounds: the two forwards differ by no more than either differs from fp32."""
        model = tiny_model(family)
        with torch.no_grad():
            exact = response_logps(model, TREES, engine="padded").tokens
            with torch.autocast("cpu", dtype=torch.bfloat16):
                tree = response_logps(model, TREES, engine="tree").tokens
                plain = response_logps(model, TREES, engine="padded").tokens
        rounding = (plain - exact).abs().mean()
        assert (tree - exact).abs().mean() < 1.5 * rounding

    def test_attention_is_restored(self, family: str) -> None:
        model = tiny_model(family)
        before = model.config._attn_implementation
        response_logps(model, TREES[:1])
        assert model.config._attn_implementation == before

    def test_a_causal_mask_is_wrong(self, family: str) -> None:
        """Negative control: responses that see their siblings give other log-probabilities."""
        assert difference_with_rule(tiny_model(family), CausalSegment) > 0.05

    def test_a_mask_blind_to_the_prompt_is_wrong(self, family: str) -> None:
        assert difference_with_rule(tiny_model(family), PromptBlindSegment) > 0.05


class CausalSegment(Segment):
    """Every token sees all tokens before it in the row, siblings included."""

    def _allowed(self, window: int | None) -> torch.Tensor:
        n = self.stop - self.start
        return torch.ones(n, n, dtype=torch.bool).tril()


class PromptBlindSegment(Segment):
    """A response sees itself only."""

    def _allowed(self, window: int | None) -> torch.Tensor:
        return super()._allowed(window) & (self.branch[None, :] == self.branch[:, None])


def difference_with_rule(model: torch.nn.Module, rule: type[Segment]) -> float:
    row = pack_row(TREES)
    wrong: PackedRow = replace(row, segments=tuple(rule(s.start, s.stop, s.positions, s.branch) for s in row.segments))
    with torch.no_grad():
        hidden = packed_hidden_states(model, wrong)[row.predictor]
        got = chunked_logps(hidden, row.target, logits_function(model))
        return float((got - response_logps(model, TREES, engine="padded").tokens).abs().max())


def test_sliding_window_counts_positions() -> None:
    """In the third response of a tree, packed indices lie far from positions: a window over indices would differ."""
    model = tiny_model("gemma2")
    assert largest_difference(model, [random_tree(5, 20, 20, 20, seed=7)]) < 1e-5


def test_long_trees_take_the_other_kernel() -> None:
    """Past the matrix limit the attention is SDPA with a mask; grouped heads and no soft cap."""
    model = tiny_model("llama")
    model.config.max_position_embeddings = 2048
    long = random_tree(500, 200, 200, seed=8)
    assert long.n_tokens > 768
    assert largest_difference(model, [long, TREES[0]]) < 1e-5


@pytest.mark.parametrize("chunk", [1, 3, 64, 10_000])
def test_chunks_change_nothing(chunk: int) -> None:
    model = tiny_model()
    torch.testing.assert_close(
        response_logps(model, TREES, chunk=chunk).tokens, response_logps(model, TREES).tokens, rtol=0, atol=2e-6
    )


def test_two_backward_passes_through_the_chunked_head() -> None:
    """Gradient norms of two loss terms are taken from one forward."""
    model = tiny_model()
    sums = response_logps(model, TREES, chunk=5).sums()
    parameters = list(model.parameters())
    first = torch.autograd.grad(sums.sum(), parameters, retain_graph=True)
    second = torch.autograd.grad(sums.sum(), parameters)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_sums_and_split() -> None:
    logps = response_logps(tiny_model(), TREES)
    assert logps.lengths.tolist() == [len(r) for t in TREES for r in t.response_ids]
    by_hand = torch.stack([part.sum() for part in logps.split()])
    torch.testing.assert_close(logps.sums(), by_hand)
