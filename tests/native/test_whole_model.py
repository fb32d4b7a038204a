"""A model of sizes that all kernels take: equal to the plain forward, by the kernels and without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from safetyvalve.native import kernels
from safetyvalve.native.calls import call
from safetyvalve.trees import Engine, Tree, decoder, head, kernel, response_logps, tree_attention
from safetyvalve.trees.decoder import plain_layers
from safetyvalve.trees.products import _Packed, _Vectors, operand
from safetyvalve.trees.recompute import recomputed_layers
from tests.native.both import in_torch, threads, without_tiles
from tests.tiny import random_tree

WORDS, LAYERS = 96, 2
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 512,
}


def within(tree: Tree) -> Tree:
    """Of words that there are."""
    prompt, *responses = (tuple(i % WORDS for i in ids) for ids in (tree.prompt_ids, *tree.response_ids))
    return Tree(prompt, tuple(responses))


SYSTEM = random_tree(20, 1, seed=99).prompt_ids
SHAPES = {
    "common beginning": [Tree(SYSTEM + random_tree(n, 1, seed=n).prompt_ids, ((n,), (1, 2, n))) for n in (1, 7, 30)],
    "one token each": [random_tree(1, 1, seed=3), random_tree(1, 1, 1, seed=4)],
    "16 responses": [random_tree(12, *[1 + 2 * i for i in range(16)], seed=4), random_tree(1, 1)],
    "cut": [random_tree(140, 60, 90, 1, seed=5), random_tree(30, 20, 25, seed=6)],
}
SHAPES = {name: [within(tree) for tree in trees] for name, trees in SHAPES.items()}


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "kernels": nullcontext,
    "without tiles": without_tiles,
    "torch": in_torch,
}


class Case(NamedTuple):
    shape: str
    family: str = "llama"
    tied: bool = False
    recompute: bool = False
    threads: int = 1


CASES = [
    *(Case(shape) for shape in SHAPES),
    *(Case(shape, "qwen2", tied=True, recompute=True, threads=2) for shape in SHAPES),
    Case("common beginning", tied=True, threads=3),
    Case("16 responses", recompute=True),
    Case("cut", "qwen2"),
]


@pytest.fixture(autouse=True)
def _library() -> None:
    if kernels().library is None:
        pytest.skip(kernels().reason)


def model_of(family: str = "llama", *, tied: bool = False) -> PreTrainedModel:
    torch.manual_seed(0)
    build = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=tied)),
    }
    model = build[family]()
    assert len(plain_layers(model.model)) == LAYERS
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
            elif name.endswith("bias"):  # which are zero in a new model
                parameter.normal_(std=0.3)
    return model.eval()


def found(model: PreTrainedModel, batches: list[list[Tree]], engine: Engine, *, bf16: bool) -> list[Tensor]:
    """Log-probabilities of all, and the sum of all gradients of a weighted sum of them."""
    model.zero_grad()
    tokens = []
    for trees in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logps = response_logps(model, trees, engine=engine, chunk=7)
        weights = torch.linspace(-1, 1.5, len(logps.lengths), dtype=logps.tokens.dtype)
        (logps.sums() * weights).sum().backward()
        tokens.append(logps.tokens.detach())
    return [torch.cat(tokens), *(p.grad.clone() for p in model.parameters())]


def far(a: list[Tensor], b: list[Tensor]) -> tuple[float, float]:
    """Of log-probabilities, and of the gradient as one vector relative to its length."""
    gradient = sum(float((x - y).square().sum()) for x, y in zip(a[1:], b[1:], strict=True)) ** 0.5
    length = sum(float(y.square().sum()) for y in b[1:]) ** 0.5
    return float((a[0] - b[0]).abs().max()), gradient / length


@contextmanager
def used() -> Iterator[list[Any]]:
    """Collects what is multiplied with, and the names of attention's kernels."""
    seen: list[Any] = []

    def noted(*given: Any) -> Any:
        seen.append(operand(*given))
        return seen[-1]

    def named(name: str, *given: Any) -> int:
        seen.append(name)
        return call(name, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "operand", noted)
        patch.setattr(head, "operand", noted)
        patch.setattr(kernel, "call", named)
        yield seen


def held(model: PreTrainedModel, batches: list[list[Tree]], case: Case) -> None:
    """In both types, by all kernels, some and none; as near as the plain forward comes in bf16."""
    exact = found(model, batches, "padded", bf16=False)
    rounded = far(found(model, batches, "padded", bf16=True), exact)
    errors = {}
    for way, context in WAYS.items():
        for bf16 in (False, True):
            again = recomputed_layers(model) if case.recompute else nullcontext()
            with threads(case.threads), context(), used() as seen, tree_attention(model), again:
                errors[way, bf16] = far(found(model, batches, "tree", bf16=bf16), exact)
            packed = bf16 and way == "kernels" and kernels().tiles
            vectors = way == "kernels" and kernels().vectors
            made = [thing for thing in seen if not isinstance(thing, str)]
            assert len(made) == LAYERS * 4 + 1  # groups of matrices with one input a layer, and the head
            assert all(isinstance(thing, _Packed) == packed for thing in made)
            assert all(isinstance(thing, _Vectors) == vectors for thing in made)
            kind = "sv_attend_tiles" if packed else "sv_attend"
            calls = set() if way == "torch" else {f"{kind}_forward", f"{kind}_backward"}
            assert {thing for thing in seen if isinstance(thing, str)} == calls
        logps, gradient = errors[way, False]
        assert logps < 1e-5
        assert gradient < 1e-5
        logps, gradient = errors[way, True]
        # One token or two round to a lucky value now and then: bf16's own step at these sizes is added.
        assert logps < 2 * rounded[0] + 0.05
        assert gradient < 2 * rounded[1] + 0.02
    for way in ("kernels", "without tiles"):
        assert errors[way, True] != errors["torch", True]
        assert errors[way, True][1] < 1.2 * errors["torch", True][1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_to_the_plain_forward(case: Case) -> None:
    held(model_of(case.family, tied=case.tied), [SHAPES[case.shape]], case)


@pytest.mark.parametrize("case", [Case(""), Case("", "qwen2", tied=True, recompute=True)], ids=str)
def test_several_micro_batches(case: Case) -> None:
    """In one scope, in which matrices are packed once."""
    held(model_of(case.family, tied=case.tied), list(SHAPES.values()), case)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_first_without_gradients(tied: bool, recompute: bool) -> None:
    """A scope in which a forward without gradients packed the matrices gives the same gradients to the bit."""
    model, batches = model_of(tied=tied), [SHAPES["16 responses"]]
    with tree_attention(model):
        expected = found(model, batches, "tree", bf16=True)
    with tree_attention(model), recomputed_layers(model) if recompute else nullcontext():
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            before = response_logps(model, batches[0], chunk=7).tokens
        after = found(model, batches, "tree", bf16=True)
    assert torch.equal(before, after[0])
    assert all(torch.equal(a, b) for a, b in zip(after, expected, strict=True))


def test_the_same_each_time() -> None:
    """Also with several threads, to the bit."""
    model, batches = model_of(tied=True), [SHAPES["cut"], SHAPES["16 responses"]]
    for number in (1, 2, 3):
        with threads(number):
            first, second = (found(model, batches, "tree", bf16=True) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("word", [WORDS, -1])
def test_a_word_that_there_is_not(word: int) -> None:
    """Refused as by the model's own forward, also as the last one, which only the head sees."""
    trees = [Tree((1, 2), ((3, 4), (3, word), (5, 6)))]
    with torch.no_grad(), pytest.raises((IndexError, RuntimeError)):
        response_logps(model_of(), trees)
