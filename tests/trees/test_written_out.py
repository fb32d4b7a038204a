"""Layers written out as one function, and rows that share their beginning: equal to the plain forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from safetyvalve.trees import Tree, pack_row, response_logps, tree_attention
from safetyvalve.trees import decoder as decoder_module
from safetyvalve.trees import tiles as tiles_module
from safetyvalve.trees.decoder import plain_layers
from safetyvalve.trees.forward import packed_hidden_states
from safetyvalve.trees.head import chunked_logps, logits_function
from safetyvalve.trees.plan import WORTH_SHARING, Segment
from safetyvalve.trees.recompute import recomputed_layers
from tests.families import COMMON, HELD
from tests.tiny import random_tree, tiny_model

SYSTEM = random_tree(20, 1, seed=99).prompt_ids


def beginning(tree: Tree) -> Tree:
    return Tree(SYSTEM + tree.prompt_ids, tree.response_ids)


SHAPES = {
    "common beginning": [beginning(random_tree(n, 5, 1, 9, seed=n)) for n in (1, 7, 30)],
    "one prompt twice": [Tree(SYSTEM, ((1, 2, 3), (4,))), Tree(SYSTEM, ((5, 6), (7, 8, 9)))],
    "one prompt in another": [Tree(SYSTEM, ((1, 2, 3), (4,))), beginning(random_tree(9, 1, 6))],
    "nothing in common": [random_tree(9, 4, 6, seed=1), random_tree(30, 3, seed=2)],
    "one token each": [random_tree(1, 1, seed=3), random_tree(1, 1, 1, seed=4)],
    "16 responses": [beginning(random_tree(12, *[1 + 2 * i for i in range(16)], seed=4)), beginning(random_tree(1, 1))],
}
PLAIN = ["llama", "mistral", "qwen2"]


def found(model: PreTrainedModel, trees: list[Tree], engine: str, *, bf16: bool) -> list[torch.Tensor]:
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


@pytest.mark.parametrize(
    ("shape", "family", "recompute", "cut"),
    [
        *((shape, "llama", False, False) for shape in SHAPES),
        *((shape, "llama", True, True) for shape in SHAPES),
        *(("common beginning", family, False, True) for family in PLAIN),
        ("16 responses", "qwen2", True, False),
    ],
)
def test_equal_to_the_plain_forward(
    shape: str, family: str, recompute: bool, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, trees = tiny_model(family), SHAPES[shape]
    assert plain_layers(model.base_model)
    if cut:
        for limit, tokens in (("_WHOLE", 4), ("_ROWS", 5), ("_GROUP", 6)):
            monkeypatch.setattr(tiles_module, limit, tokens)
    exact = found(model, trees, "padded", bf16=False)
    rounded = far(found(model, trees, "padded", bf16=True), exact)
    if not recompute:
        ours = found(model, trees, "tree", bf16=False), found(model, trees, "tree", bf16=True)
    else:
        with tree_attention(model), recomputed_layers(model):
            ours = found(model, trees, "tree", bf16=False), found(model, trees, "tree", bf16=True)
    logps, gradient = far(ours[0], exact)
    assert logps < 1e-5
    assert gradient < 1e-5
    logps, gradient = far(ours[1], exact)
    # One token or two round to a lucky value now and then: bf16's own step at these sizes is added.
    assert logps < 2 * rounded[0] + 0.05
    assert gradient < 2 * rounded[1] + 0.02


@pytest.mark.parametrize("family", [f.name for f in HELD])
def test_a_common_beginning_in_every_architecture(family: str) -> None:
    """Also where the layers are the model's own: soft caps, sinks, windows, chunks."""
    model, trees = tiny_model(family), SHAPES["common beginning"]
    with torch.no_grad():
        exact = response_logps(model, trees, engine="padded").tokens
        assert (response_logps(model, trees).tokens - exact).abs().max() < 1e-5


class RootBlindSegment(Segment):
    """Does not see the common beginning."""

    def allowed(self, *given: object) -> torch.Tensor:
        allowed = super().allowed(*given)  # type: ignore[arg-type]
        allowed[:, : self.root] = False
        return allowed


@pytest.mark.parametrize("family", [*PLAIN, "gemma2"])
def test_a_mask_blind_to_the_beginning_is_wrong(family: str) -> None:
    model, trees = tiny_model(family), SHAPES["common beginning"]
    row = pack_row(trees, shared=True, ends=False)
    wrong = replace(
        row, segments=tuple(RootBlindSegment(s.start, s.stop, s.positions, s.branch, s.root) for s in row.segments)
    )
    with torch.no_grad():
        exact = response_logps(model, trees, engine="padded").tokens
        for packed, least, most in ((wrong, 0.02, torch.inf), (row, 0, 1e-5)):
            hidden = packed_hidden_states(model, packed, packed.predictor)
            difference = (chunked_logps(hidden, row.target, logits_function(model)) - exact).abs().max()
            assert least <= difference <= most


class TestLeanRows:
    def test_tokens(self) -> None:
        """Three prompts of 21, 27 and 50 tokens that share 20, responses of 5, 1 and 9 without their last tokens."""
        row = pack_row(SHAPES["common beginning"], shared=True, ends=False)
        assert len(row.input_ids) == 20 + (1 + 7 + 30) + 3 * (4 + 0 + 8)
        assert len(row.target) == 3 * (5 + 1 + 9)
        assert [s.root for s in row.segments] == [0, 20, 20, 20]

    def test_every_token_predicts_as_in_the_whole_row(self) -> None:
        for trees in SHAPES.values():
            lean, whole = pack_row(trees, shared=True, ends=False), pack_row(trees)
            assert torch.equal(lean.target, whole.target)
            assert torch.equal(lean.owner, whole.owner)
            for attribute in ("input_ids", "position_ids"):
                a, b = (getattr(row, attribute)[row.predictor] for row in (lean, whole))
                assert torch.equal(a, b)

    def test_a_short_beginning_is_not_shared(self) -> None:
        """Two tokens in common would cost more in cut attention than they save."""
        few = SYSTEM[: WORTH_SHARING - 1]
        trees = [Tree((*few, 1), ((2, 3),)), Tree((*few, 4), ((5, 6),))]
        assert [s.root for s in pack_row(trees, shared=True, ends=False).segments] == [0, 0]
        enough = SYSTEM[:WORTH_SHARING]
        trees = [Tree((*enough, 1), ((2, 3),)), Tree((*enough, 4), ((5, 6),))]
        assert pack_row(trees, shared=True, ends=False).segments[1].root == WORTH_SHARING

    def test_one_tree_shares_with_nobody(self) -> None:
        assert len(pack_row([Tree(SYSTEM, ((1, 2),))], shared=True, ends=False).segments) == 1


class TestWhichLayers:
    @pytest.mark.parametrize("family", [f.name for f in HELD])
    def test_only_those_of_the_form(self, family: str) -> None:
        model = tiny_model(family)
        assert bool(plain_layers(getattr(model, "model", model.base_model))) == (family in PLAIN)

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.model.layers[1].mlp.register_forward_hook(lambda *_: None),
            lambda m: m.model.layers[0].register_forward_pre_hook(lambda *_: None),
            lambda m: setattr(m.model.layers[2].self_attn.q_proj, "forward", lambda x: x),
            lambda m: setattr(m.model.layers[2].mlp, "act_fn", torch.nn.GELU()),
            lambda m: m.model.layers[0].self_attn.o_proj.weight.requires_grad_(False),
            lambda m: m.model.layers[0].add_module("adapter", torch.nn.Linear(2, 2)),
            lambda m: m.to(torch.float64),
            lambda m: torch.nn.utils.parametrizations.weight_norm(m.model.layers[0].mlp.up_proj),
        ],
    )
    def test_a_changed_model_computes_its_own(self, change: Callable[[PreTrainedModel], object]) -> None:
        model = tiny_model()
        assert len(plain_layers(model.model)) == 3
        change(model)
        assert not plain_layers(model.model)

    def test_an_adapter(self) -> None:
        model = get_peft_model(tiny_model(), LoraConfig(target_modules="all-linear"))
        assert not plain_layers(model.get_base_model().model)

    def test_dropout_in_training(self) -> None:
        model = LlamaForCausalLM(LlamaConfig(**COMMON, attention_dropout=0.1))
        assert plain_layers(model.eval().model)
        assert not plain_layers(model.train().model)

    def test_the_model_is_as_before(self) -> None:
        model = tiny_model()
        response_logps(model, SHAPES["common beginning"])
        assert all("forward" not in vars(layer) for layer in model.model.layers)


def test_copies_of_weights_do_not_outlive_a_step() -> None:
    """In bf16 the matrices are copied once a step; the next step sees the weights as they are then, however changed."""
    model, trees = tiny_model(), SHAPES["common beginning"]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with tree_attention(model):
            before = response_logps(model, trees).tokens
        model.model.layers[0].mlp.up_proj.weight.data.mul_(3)
        with tree_attention(model):
            after = response_logps(model, trees).tokens
        expected = response_logps(tiny_model_with(3), trees).tokens
    assert (before - after).abs().max() > 0.05
    assert torch.equal(after, expected)


def tiny_model_with(factor: float) -> PreTrainedModel:
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(factor)
    return model


def test_matrices_are_copied_once_for_all_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = decoder_module.operand
    monkeypatch.setattr(decoder_module, "operand", lambda *given: made.append(1) or plain(*given))
    model = tiny_model()
    with torch.autocast("cpu", dtype=torch.bfloat16), tree_attention(model):
        for _ in range(3):
            response_logps(model, SHAPES["common beginning"]).sums().sum().backward()
    assert len(made) == 4 * 3  # groups of matrices with one input a layer


def test_states_at_some_places() -> None:
    """In any order, with repetitions; the last layer computes no others."""
    for family in ("llama", "gpt2"):
        model, row = tiny_model(family), pack_row(SHAPES["common beginning"])
        at = torch.tensor([5, 40, 40, 3, 11])
        with torch.no_grad():
            torch.testing.assert_close(
                packed_hidden_states(model, row, at), packed_hidden_states(model, row)[at], rtol=0, atol=1e-5
            )
