"""Every way to compute faster or in less memory gives what the plain forward gives, on the shapes that break things."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from safetyvalve.errors import EngineError
from safetyvalve.trees import Tree, block_mask, pack_row, recomputed_layers, response_logps, tree_attention
from safetyvalve.trees import head as head_module
from safetyvalve.trees import kernel as kernel_module
from safetyvalve.trees import tiles as tiles_module
from safetyvalve.trees.forward import packed_hidden_states
from tests.tiny import random_tree, tiny_model

SHAPES = {
    "one response of one token": [random_tree(9, 1, seed=1)],
    "a prompt of one token": [random_tree(1, 6, 11, seed=2)],
    "one token each": [random_tree(1, 1, seed=3)],
    "16 responses": [random_tree(12, *[1 + 2 * i for i in range(16)], seed=4)],
    "several trees": [random_tree(9, 1, seed=1), random_tree(1, 6, 11, seed=2), random_tree(30, 20, 25, seed=5)],
}


@contextmanager
def path(name: str, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ExitStack() as stack:
        if name == "tiled":
            for limit, tokens in (("_WHOLE", 4), ("_ROWS", 5), ("_GROUP", 6)):
                monkeypatch.setattr(tiles_module, limit, tokens)
        if name in ("tiled", "forgotten"):
            monkeypatch.setattr(kernel_module, "KEPT_TOKENS", 0)
            monkeypatch.setattr(head_module, "KEPT_BYTES", 0)
        if name == "recomputed":
            stack.enter_context(tree_attention(model))
            stack.enter_context(recomputed_layers(model))
        yield


def both(model: torch.nn.Module, trees: list[Tree], engine: str, *, bf16: bool) -> list[torch.Tensor]:
    """Log-probabilities and all gradients of a weighted sum of them."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logps = response_logps(model, trees, engine=engine, chunk=7)
    weights = torch.linspace(-1, 1.5, len(logps.lengths), dtype=logps.tokens.dtype)
    (logps.sums() * weights).sum().backward()
    return [logps.tokens.detach(), *(p.grad.clone() for p in model.parameters())]


def far(a: list[torch.Tensor], b: list[torch.Tensor]) -> tuple[float, float]:
    """Of log-probabilities, and of the gradient as one vector relative to its length."""
    gradient = sum(float((x - y).square().sum()) for x, y in zip(a[1:], b[1:], strict=True)) ** 0.5
    length = sum(float(y.square().sum()) for y in b[1:]) ** 0.5
    return float((a[0] - b[0]).abs().max()), gradient / length


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["matrix", "tiled", "forgotten", "recomputed"])
def test_equal_to_the_plain_forward(name: str, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    exact = both(model, SHAPES[shape], "padded", bf16=False)
    rounded = far(both(model, SHAPES[shape], "padded", bf16=True), exact)
    with path(name, model, monkeypatch):
        logps, gradient = far(both(model, SHAPES[shape], "tree", bf16=False), exact)
        assert logps < 1e-5
        assert gradient < 1e-5
        logps, gradient = far(both(model, SHAPES[shape], "tree", bf16=True), exact)
    # One token or two round to a lucky value now and then: bf16's own step at these sizes is added.
    assert logps < 2 * rounded[0] + 0.05
    assert gradient < 2 * rounded[1] + 0.02


@pytest.mark.parametrize(
    ("family", "shape"),
    [*(("mistral", shape) for shape in SHAPES), ("gemma2", "several trees"), ("llama4_text", "several trees")],
)
def test_flex_log_probabilities(family: str, shape: str) -> None:
    """Forward only: FlexAttention has no backward pass on CPUs."""
    model = tiny_model(family)
    with torch.no_grad():
        exact = response_logps(model, SHAPES[shape], engine="padded").tokens
        with tree_attention(model, kernel="flex"):
            assert (response_logps(model, SHAPES[shape]).tokens - exact).abs().max() < 1e-5
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = response_logps(model, SHAPES[shape]).tokens
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = response_logps(model, SHAPES[shape], engine="padded").tokens
    assert (found - exact).abs().max() < 2 * (rounded - exact).abs().max() + 0.05


def test_flex_refuses_what_it_does_not_have() -> None:
    with (
        tree_attention(model := tiny_model("gpt_oss"), kernel="flex"),
        pytest.raises(EngineError, match="sinks"),
        torch.no_grad(),
    ):
        response_logps(model, SHAPES["one token each"])


@pytest.mark.parametrize("size", [1, 4, 16])
def test_block_mask_skips_what_no_token_sees(size: int) -> None:
    """A block is kept where some pair in it may attend, by the plan of each tree; never elsewhere."""
    row = pack_row(SHAPES["several trees"])
    length = len(row.input_ids)
    whole = torch.zeros(-(-length // size) * size, -(-length // size) * size, dtype=torch.bool)
    for s in row.segments:
        whole[s.start : s.stop, s.start : s.stop] = s.allowed()
    blocks = whole.view(len(whole) // size, size, len(whole) // size, size).any(-1).any(1)
    assert torch.equal(block_mask(row, block_size=size).to_dense()[0, 0].bool(), blocks)


class TestRecomputed:
    def test_gradients_are_bitwise_equal(self) -> None:
        model = tiny_model()
        kept = both(model, SHAPES["several trees"], "tree", bf16=False)
        for engine in ("tree", "padded"):
            plain = both(model, SHAPES["several trees"], engine, bf16=False)
            with tree_attention(model) if engine == "tree" else ExitStack(), recomputed_layers(model):
                again = both(model, SHAPES["several trees"], engine, bf16=False)
            assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
        assert len(kept) == len(again)

    def test_layers_keep_their_input_only(self) -> None:
        model, tree = tiny_model(), [random_tree(40, 40, 40)]

        def kept() -> int:
            found: dict[int, int] = {}

            def note(tensor: torch.Tensor) -> torch.Tensor:
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
                response_logps(model, tree)
            weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
            return sum(size for place, size in found.items() if place not in weights)

        everything = kept()
        with tree_attention(model), recomputed_layers(model):
            assert kept() < everything / 5

    def test_the_model_is_as_before(self) -> None:
        model = tiny_model()
        with recomputed_layers(model):
            pass
        assert all("forward" not in vars(layer) for layer in model.model.layers)

    def test_dropout_stays_off(self) -> None:
        """transformers' own switch needs training mode, in which GPT-2 would drop."""
        model = tiny_model("gpt2")
        with torch.no_grad():
            plain = response_logps(model, SHAPES["several trees"]).tokens
        with tree_attention(model), recomputed_layers(model):
            torch.testing.assert_close(response_logps(model, SHAPES["several trees"]).tokens, plain)

    def test_a_model_without_such_layers(self) -> None:
        with (
            pytest.raises(EngineError, match="has no layers that can be computed again"),
            recomputed_layers(torch.nn.Linear(2, 2)),
        ):
            pass


def attention_operations(trees: list[Tree]) -> int:
    """Floating-point operations of the attention's own products, counted while a forward runs."""
    counter = FlopCounterMode(display=False)
    model = tiny_model()
    with torch.no_grad(), counter:
        packed_hidden_states(model, pack_row(trees))
    return int(counter.get_flop_counts()["Global"][torch.ops.aten.bmm])


class TestGrowth:
    """Counted, not timed."""

    def test_attention_is_that_of_the_trees(self) -> None:
        """Twice the trees, twice the work; one dense mask over the row would take four times."""
        trees = [random_tree(30, 20, 25, seed=i) for i in range(8)]
        one, two, eight = (attention_operations(trees[:n]) for n in (1, 2, 8))
        assert (two, eight) == (2 * one, 8 * one)
        layers, heads, width = 3, 4, 8
        # The second of the two products of every layer; each multiplies and adds.
        assert one == layers * 2 * (2 * heads * 75 * 75 * width)

    def test_unequal_lengths_cost_no_padding(self) -> None:
        """A long response beside short ones: every token once through the layers."""
        even, uneven = random_tree(20, 20, 20, 20), random_tree(20, 56, 2, 2)
        assert attention_operations([even]) == attention_operations([uneven])
        assert len(pack_row([even]).input_ids) == len(pack_row([uneven]).input_ids) == 80
