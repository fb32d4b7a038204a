"""Tied embeddings have one gradient: the one that autograd gives, however forward and backward passes come."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from safetyvalve.trees import (
    Engine,
    Tree,
    pack_row,
    packed_hidden_states,
    recomputed_layers,
    response_logps,
    tree_attention,
)
from safetyvalve.trees import head as head_module
from safetyvalve.trees.head import one_gradient
from safetyvalve.trees.tied import Waiting, tied_embedding
from tests.families import COMMON
from tests.tiny import random_tree

PADDING = COMMON["pad_token_id"]
PLAIN = [random_tree(9, 4, 6, seed=1), random_tree(3, 2, seed=2)]
PADDED = [Tree((5, PADDING, 7, 7), ((1, PADDING, 2), (PADDING, 9)))]
"""The padding token in the prompt, in a response, and as what is predicted."""


def model_of(*, padding: bool = True, tied: bool = True) -> PreTrainedModel:
    torch.manual_seed(0)
    changes = {"tie_word_embeddings": tied, "pad_token_id": PADDING if padding else None}
    model = LlamaForCausalLM(LlamaConfig(**(COMMON | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    embedding = model.get_input_embeddings()
    assert embedding.padding_idx == (PADDING if padding else None)
    assert (embedding.weight is model.get_output_embeddings().weight) == tied
    return model.eval()


def loss(model: PreTrainedModel, trees: list[Tree], engine: Engine = "tree") -> Tensor:
    """A weighted sum, the head seven tokens at a time."""
    logps = response_logps(model, trees, engine=engine, chunk=7)
    return (logps.sums() * torch.linspace(-1, 1.5, len(logps.lengths))).sum()


def taken(model: PreTrainedModel) -> dict[str, Tensor]:
    """The gradients that there are, which the model then has no more."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def plain(model: PreTrainedModel, *batches: list[Tree]) -> dict[str, Tensor]:
    """Autograd's own, by the model's own forward."""
    for trees in batches:
        loss(model, trees, "padded").backward()
    return taken(model)


def equal(found: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    """Row by row, lest a wrong one hide behind the others."""
    assert found.keys() == exact.keys()
    for name, true in exact.items():
        apart, size = ((x if x.dim() > 1 else x[None]).norm(dim=1) for x in (found[name] - true, true))
        assert (apart <= 1e-5 * size + 3e-6 * size.max()).all(), name


def waits(model: PreTrainedModel) -> bool:
    """Whether the head's gradient is left for the embedding."""
    with one_gradient(model) as waiting:
        return waiting is not None


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("kept", [0, 2**28])
@pytest.mark.parametrize("recompute", [False, True])
def test_autograds_own(padding: bool, kept: int, recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micro-batches add up, also where the head computes its probabilities again, chunk by chunk."""
    monkeypatch.setattr(head_module, "KEPT_BYTES", kept)
    model = model_of(padding=padding)
    exact = plain(model, PLAIN, PADDED)
    assert waits(model)
    with tree_attention(model), recomputed_layers(model) if recompute else nullcontext():
        for trees in (PLAIN, PADDED):
            loss(model, trees).backward()
    equal(taken(model), exact)


def test_the_padding_token_learns_as_a_target_only() -> None:
    """Its row has the gradient that a head of its own would have, other rows more."""
    model = model_of()
    apart = copy.deepcopy(model)
    apart.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    loss(model, PADDED).backward()
    loss(apart, PADDED).backward()
    both, own = model.lm_head.weight.grad, apart.lm_head.weight.grad
    assert both is not None
    torch.testing.assert_close(both[PADDING], own[PADDING], rtol=1e-4, atol=1e-6)
    for seen in (5, 7, 1):
        assert (both[seen] - own[seen]).norm() > 0.01 * own[seen].norm()
    torch.testing.assert_close(both - own, apart.get_input_embeddings().weight.grad, rtol=1e-4, atol=1e-5)


class TestOrder:
    """Each forward has its own gradient that waits."""

    def test_two_forwards_before_one_backward(self) -> None:
        model = model_of()
        exact = plain(model, PLAIN, PADDED)
        (loss(model, PLAIN) + loss(model, PADDED)).backward()
        equal(taken(model), exact)

    def test_two_backwards_in_the_order_of_the_forwards(self) -> None:
        model = model_of()
        exact = plain(model, PLAIN, PADDED)
        first, second = loss(model, PLAIN), loss(model, PADDED)
        first.backward()
        second.backward()
        equal(taken(model), exact)

    def test_twice_through_one_graph(self) -> None:
        model = model_of()
        exact = plain(model, PLAIN, PLAIN)
        once = loss(model, PLAIN)
        once.backward(retain_graph=True)
        once.backward()
        equal(taken(model), exact)

    def test_another_gradient_first(self) -> None:
        """A backward pass that does not come down to the embedding, and then a whole one through the same graph."""
        model = model_of()
        exact = plain(model, PLAIN)
        once = loss(model, PLAIN)
        torch.autograd.grad(once, [model.model.layers[0].mlp.up_proj.weight], retain_graph=True)
        once.backward()
        equal(taken(model), exact)

    def test_a_forward_that_is_given_up(self) -> None:
        """Its gradient is never asked for, and does not come out of another's."""
        model = model_of()
        exact = plain(model, PADDED)
        loss(model, PLAIN)
        loss(model, PADDED).backward()
        equal(taken(model), exact)

    def test_what_one_backward_pass_left_is_not_anothers(self) -> None:
        waiting, like = Waiting(), torch.zeros(3, 2)
        for value in (1.0, 2.0):
            waiting.put(torch.full((3, 2), value))
        assert torch.equal(waiting.take(like), torch.full((3, 2), 2.0))
        assert torch.equal(waiting.take(like), like)

    def test_no_use_of_the_head(self) -> None:
        model, row = model_of(), pack_row(PADDED)
        found = []
        for context in (one_gradient(model), nullcontext()):
            with context:
                hidden = packed_hidden_states(model, row)
            (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
            found.append(taken(model))
        assert found[0]["model.embed_tokens.weight"].abs().max() > 0
        equal(found[0], found[1])


class Doubled(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def double(embedding: nn.Embedding) -> None:
    own = embedding.forward
    embedding.forward = lambda input: 2 * own(input)  # type: ignore[method-assign]


CHANGES: dict[str, Callable[[nn.Embedding], object]] = {
    "hook": lambda e: e.register_forward_hook(lambda _, given, out: 2 * out),
    "hook before": lambda e: e.register_forward_pre_hook(lambda _, given: (given[0].flip(-1),)),
    "hook of gradients": lambda e: e.register_full_backward_hook(lambda _, grads, above: None),
    "longest": lambda e: setattr(e, "max_norm", 0.4),
    "by frequency": lambda e: setattr(e, "scale_grad_by_freq", True),
    "forward": double,
    "class": lambda e: setattr(e, "__class__", Doubled),
}


class TestLeftAlone:
    @pytest.mark.filterwarnings("ignore:Full backward hook is firing")
    @pytest.mark.parametrize("change", CHANGES)
    def test_an_embedding_that_does_more(self, change: str) -> None:
        """What it does, it does still; one response to a prompt, so that both engines look up the same tokens."""
        model, trees = model_of(), [Tree((5, 8, 7), ((1, 2),))]
        before = plain(model, trees)
        CHANGES[change](model.get_input_embeddings())
        assert not waits(model)
        if change in ("by frequency", "hook before"):  # the two engines look up other rows
            return
        exact = plain(model, trees)
        name = "model.embed_tokens.weight"
        assert change == "hook of gradients" or not torch.allclose(exact[name], before[name], rtol=1e-3)
        loss(model, trees).backward()
        equal(taken(model), exact)

    def test_frozen(self) -> None:
        model = model_of()
        model.lm_head.weight.requires_grad_(False)
        assert not waits(model)
        exact = plain(model, PLAIN)
        loss(model, PLAIN).backward()
        assert "model.embed_tokens.weight" not in exact
        equal(taken(model), exact)

    def test_without_gradients(self) -> None:
        model = model_of()
        with torch.no_grad():
            assert not waits(model)
            found = response_logps(model, PADDED).tokens
        assert torch.equal(found, response_logps(model, PADDED).tokens.detach())

    def test_apart(self) -> None:
        """The head's gradient goes to the head."""
        model = model_of(tied=False)
        assert not waits(model)
        exact = plain(model, PLAIN)
        loss(model, PLAIN).backward()
        equal(taken(model), exact)

    def test_in_fp64(self) -> None:
        """Which goes through autograd."""
        assert not waits(model_of().double())


class TestAsBefore:
    def test_afterwards(self) -> None:
        embedding = (model := model_of()).get_input_embeddings()
        before = dict(vars(embedding))
        with tied_embedding(embedding, embedding.weight):
            assert "forward" in vars(embedding)
        loss(model, PLAIN).backward()
        assert vars(embedding) == before

    def test_after_a_forward_that_fails(self) -> None:
        model = model_of()
        with pytest.raises(IndexError):
            loss(model, [Tree((1, 10_000), ((2, 3),))])
        assert "forward" not in vars(model.get_input_embeddings())
        exact = plain(model, PADDED)
        loss(model, PADDED).backward()
        equal(taken(model), exact)
