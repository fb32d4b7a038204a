"""Which forward is taken, and that an inexact one is never taken silently."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, Exaone4Config, Exaone4ForCausalLM, LlamaConfig, LlamaForCausalLM

from safetyvalve.errors import EngineError, UsageError
from safetyvalve.trees import Tree, choose_engine, pack_row, response_logps
from tests.tiny import random_tree, tiny_model

TREES = [random_tree(11, 7, 9, seed=1), random_tree(4, 6, seed=2)]


class SharperLlama(LlamaForCausalLM):
    """An architecture whose head does something that the shared-prefix forward does not know."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 3
        return output


class BrokenLlama(LlamaForCausalLM):
    """An architecture that reads its attention mask as a tensor."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model.layers[0].register_forward_pre_hook(self._read, with_kwargs=True)

    @staticmethod
    def _read(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs.get("attention_mask") is not None:
            kwargs["attention_mask"].shape  # noqa: B018


def small(cls: type[LlamaForCausalLM]) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    return cls(config).eval()


def bloom() -> BloomForCausalLM:
    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=260, hidden_size=32, n_layer=2, n_head=4)).eval()


def test_auto_takes_the_tree_and_says_why() -> None:
    choice = choose_engine(tiny_model(), TREES)
    assert choice.engine == "tree"
    assert "equal to the plain forward within" in choice.reason


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        (lambda: small(SharperLlama), "SharperLlama differs"),
        (lambda: small(BrokenLlama), "fails in the shared-prefix forward"),
        (bloom, "does not take its attention from the registry"),
    ],
)
class TestInexact:
    def test_auto_falls_back_with_the_reason(self, model: Any, fragment: str) -> None:
        choice = choose_engine(model(), TREES)
        assert choice.engine == "padded"
        assert fragment in choice.reason

    def test_tree_raises(self, model: Any, fragment: str) -> None:
        with pytest.raises(EngineError, match=fragment):
            choose_engine(model(), TREES, wanted="tree")


def test_padded_is_not_questioned() -> None:
    assert choose_engine(bloom(), TREES, wanted="padded").engine == "padded"


def test_dropout_does_not_disturb_the_comparison() -> None:
    model = tiny_model("gpt2").train()
    assert choose_engine(model, TREES).engine == "tree"
    assert model.training


def test_a_layer_that_says_it_has_no_window_has_none() -> None:
    """Exaone 4 keeps a window on every layer and passes None where it does not apply."""
    torch.manual_seed(0)
    config = Exaone4Config(
        vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=16, sliding_window_pattern=2, pad_token_id=0,
    )  # fmt: skip
    model = Exaone4ForCausalLM(config).eval()
    assert choose_engine(model, [random_tree(60, 30, 20, seed=5)]).engine == "tree"


@pytest.mark.parametrize(
    "call",
    [
        lambda m: choose_engine(m, TREES, wanted="fast"),
        lambda m: response_logps(m, TREES, engine="fast"),
        lambda m: pack_row([]),
        lambda m: pack_row([Tree((), ((1,),))]),
        lambda m: pack_row([Tree((1,), ((1,), ()))]),
        lambda m: pack_row([Tree((1,), ())]),
    ],
)
def test_bad_arguments(call: Any) -> None:
    with pytest.raises(UsageError):
        call(tiny_model())
