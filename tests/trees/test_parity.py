"""The shared-prefix forward equals the plain one, and a wrong mask is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safetyvalve.trees import Tree, largest_difference, pack_row, response_logps
from safetyvalve.trees.forward import packed_hidden_states
from safetyvalve.trees.head import chunked_logps, logits_function
from safetyvalve.trees.kernel import KEPT_TOKENS
from safetyvalve.trees.plan import PackedRow, PositionRule, Segment, causal
from tests.families import HELD, REFUSED, Family
from tests.tiny import random_tree, tiny_model

TREES = [
    random_tree(23, 17, 1, 30, seed=1),
    random_tree(1, 5, 12, seed=2),
    random_tree(40, 3, seed=3),
    random_tree(9, *[4 + i for i in range(16)], seed=4),
]


def gradients(model: torch.nn.Module, trees: list[Tree], engine: str, *, bf16: bool = False) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logps = response_logps(model, trees, engine=engine)
    # Different weights a response: a gradient that lands on the wrong response shows.
    weights = torch.linspace(-1, 1, len(logps.lengths), dtype=logps.tokens.dtype)
    (logps.sums() * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def names(families: list[Family]) -> list[str]:
    return [f.name for f in families]


@pytest.mark.parametrize("family", names(HELD))
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

    def test_bf16_is_as_near_as_the_plain_forward(self, family: str) -> None:
        """bf16 rounds: log-probabilities and gradients differ from fp32 no more than the plain forward's do."""
        model = tiny_model(family)
        choose_all_experts(model)
        exact, tree, plain = (
            [logps_of(model, engine, bf16=bf16), *gradients(model, TREES, engine, bf16=bf16).values()]
            for engine, bf16 in (("padded", False), ("tree", True), ("padded", True))
        )
        assert (tree[0] - exact[0]).abs().mean() < 1.5 * (plain[0] - exact[0]).abs().mean()
        assert distance(tree[1:], exact[1:]) < 1.5 * distance(plain[1:], exact[1:])

    def test_a_causal_mask_is_wrong(self, family: str) -> None:
        """Negative control: responses that see their siblings give other log-probabilities."""
        assert difference_with_rule(tiny_model(family), CausalSegment) > 0.02


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
class TestMore:
    def test_float64_is_equal_to_rounding(self, family: str) -> None:
        if family == "gemma2":
            pytest.skip("the plain Gemma 2 itself gives NaN in fp64: it takes its softmax in fp32 over an fp64 mask")
        assert largest_difference(tiny_model(family, dtype=torch.float64), TREES) < 1e-12

    def test_attention_is_restored(self, family: str) -> None:
        model = tiny_model(family)
        before = model.config._attn_implementation
        response_logps(model, TREES[:1])
        assert model.config._attn_implementation == before

    def test_a_mask_blind_to_the_prompt_is_wrong(self, family: str) -> None:
        assert difference_with_rule(tiny_model(family), PromptBlindSegment) > 0.05


@pytest.mark.parametrize("family", names(HELD + REFUSED))
def test_the_plain_forward_does_not_see_padding(family: str) -> None:
    """It is what everything is held to: a response alone, with no padding, gives the same."""
    model = tiny_model(family)
    short, long = random_tree(23, 17, 1, seed=1), random_tree(40, 30, seed=3)
    with torch.no_grad():
        together = response_logps(model, [short, long], engine="padded").split()
        for batch, response in zip(together, short.response_ids, strict=False):
            alone = response_logps(model, [Tree(short.prompt_ids, (response,))], engine="padded").tokens
            torch.testing.assert_close(batch, alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", [f.name for f in HELD if f.experts])
class TestExperts:
    def test_neighbours_do_not_change_the_routing(self, family: str) -> None:
        """Each token meets the same experts whether its tree is packed with others or stands alone."""
        model = tiny_model(family)
        packed = chosen_experts(model, TREES)
        alone = [chosen_experts(model, [tree]) for tree in TREES]
        assert packed
        for name in packed:
            assert torch.equal(packed[name], torch.cat([a[name] for a in alone])), name

    def test_the_router_loss_stays_out(self, family: str) -> None:
        """Models may be shipped with the load-balancing loss switched on; the log-probabilities know nothing of it."""
        model = tiny_model(family)
        without = [logps_of(model, "tree"), *gradients(model, TREES[:2], "tree").values()]
        model.config.output_router_logits = True
        for engine in ("tree", "padded"):
            found = [logps_of(model, engine), *gradients(model, TREES[:2], engine).values()]
            scale = max(g.abs().max() for g in without)
            for a, b in zip(found, without, strict=True):
                assert (a - b).abs().max() < 1e-5 * scale


def logps_of(model: torch.nn.Module, engine: str, *, bf16: bool = False) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        return response_logps(model, TREES, engine=engine).tokens


def distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return float(torch.stack([(x - y).square().sum() for x, y in zip(a, b, strict=True)]).sum().sqrt())


def choose_all_experts(model: torch.nn.Module) -> None:
    """So that rounding cannot turn a near tie of the router over, which either forward may meet."""
    for module in model.modules():
        if hasattr(module, "top_k"):
            module.top_k = getattr(model.config, "num_local_experts", None) or model.config.n_routed_experts


def chosen_experts(model: torch.nn.Module, trees: list[Tree]) -> dict[str, torch.Tensor]:
    """[token, expert] int64, sorted, by router."""
    found: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _m, _a, output, name=name: found.update({name: selected(output)}))
        for name, module in model.named_modules()
        if "Router" in type(module).__name__
    ]
    with torch.no_grad():
        response_logps(model, trees)
    for handle in handles:
        handle.remove()
    return found


def selected(output: object) -> torch.Tensor:
    """The experts that a router's output names: its integer part, or where its scores are not zero."""
    parts = output if isinstance(output, tuple) else (output,)
    whole = [p for p in parts if not p.is_floating_point()]
    return whole[0].sort(-1).values if whole else parts[0].topk(2, -1).indices.sort(-1).values


class CausalSegment(Segment):
    """Every token sees all tokens before it in the row, siblings included."""

    def allowed(self, rule: PositionRule = causal, first: int = 0, last: int | None = None) -> torch.Tensor:
        n = self.stop - self.start
        return torch.ones(n, n, dtype=torch.bool).tril()[first:last]


class WindowlessSegment(Segment):
    """What it would be without sliding windows and chunks."""

    def allowed(self, rule: PositionRule = causal, first: int = 0, last: int | None = None) -> torch.Tensor:
        return super().allowed(causal, first, last)


class PromptBlindSegment(Segment):
    """A response sees itself only."""

    def allowed(self, rule: PositionRule = causal, first: int = 0, last: int | None = None) -> torch.Tensor:
        own = self.branch[None, :] == self.branch[first:last, None]
        return super().allowed(rule, first, last) & own


def difference_with_rule(model: torch.nn.Module, rule: type[Segment]) -> float:
    row = pack_row(TREES)
    wrong: PackedRow = replace(row, segments=tuple(rule(s.start, s.stop, s.positions, s.branch) for s in row.segments))
    with torch.no_grad():
        hidden = packed_hidden_states(model, wrong)[row.predictor]
        got = chunked_logps(hidden, row.target, logits_function(model))
        return float((got - response_logps(model, TREES, engine="padded").tokens).abs().max())


@pytest.mark.parametrize("family", [f.name for f in HELD if "sliding" in f.features or "chunks" in f.features])
def test_windows_and_chunks_matter(family: str) -> None:
    """They are shorter than the trees, so that leaving them out would show."""
    assert difference_with_rule(tiny_model(family), WindowlessSegment) > 0.02


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3_text"])
def test_long_trees_are_cut(family: str) -> None:
    """Prompt and long responses in several tiles, short responses in groups; weights not kept for the backward pass."""
    model = tiny_model(family)
    model.config.max_position_embeddings = 2048
    long = random_tree(500, 200, 60, 40, 90, seed=8)
    assert long.n_tokens > KEPT_TOKENS
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
