"""Which forward is taken, and that an inexact one is never taken silently."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from safetyvalve.errors import EngineError, ModelError, UsageError
from safetyvalve.trees import Tree, choose_engine, pack_row, response_logps
from tests.families import COMMON, REFUSED, Family
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


def test_auto_takes_the_tree_and_says_why() -> None:
    choice = choose_engine(tiny_model(), TREES)
    assert choice.engine == "tree"
    assert "equal to the plain forward within" in choice.reason


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        (lambda: small(SharperLlama), "on the 2 examples compared, the longest of 27 tokens"),
        (lambda: small(BrokenLlama), "fails in the shared-prefix forward"),
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
    assert choose_engine(tiny_model("bloom"), TREES, wanted="padded").engine == "padded"


def test_dropout_does_not_disturb_the_comparison() -> None:
    model = tiny_model("gpt2").train()
    assert choose_engine(model, TREES).engine == "tree"
    assert model.training


_REASONS = {
    "mamba": "recurrent layers ('linear_attention')",
    "jamba": "recurrent layers ('linear_attention')",
    "qwen3_next": "recurrent layers ('linear_attention')",
    "lfm2": "convolutions along the tokens ('conv')",
    "rwkv": "carries a recurrent state",
    "llama4_text, tempered": "attn_temperature_tuning",
}


@pytest.mark.parametrize("family", REFUSED, ids=lambda f: f.name)
def test_refused_by_name(family: Family) -> None:
    model = tiny_model(family.name)
    reason = _REASONS.get(family.name, "does not take its attention from the registry")
    choice = choose_engine(model, TREES)
    assert choice.engine == "padded"
    assert choice.reason.startswith(type(model).__name__)
    assert reason in choice.reason
    for call in (lambda: choose_engine(model, TREES, wanted="tree"), lambda: response_logps(model, TREES)):
        with pytest.raises(EngineError, match="Use --engine padded") as caught:
            call()
        assert reason in str(caught.value)
    assert response_logps(model, TREES, engine=choice.engine).tokens.isfinite().all()


class TestPositionsThatDependOnTheBatch:
    """Phi-3 of long context turns all positions of a batch differently once one sequence is long."""

    @staticmethod
    def model() -> Phi3ForCausalLM:
        torch.manual_seed(0)
        rope = {
            "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32,
            "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        }  # fmt: skip
        config = Phi3Config(**COMMON, original_max_position_embeddings=32, rope_parameters=rope)
        return Phi3ForCausalLM(config).eval()

    @pytest.mark.parametrize("engine", ["tree", "padded"])
    def test_long_sequences_are_refused(self, engine: str) -> None:
        with pytest.raises(ModelError, match=r"has 33 tokens; past 32 .* set --max-length 32"):
            response_logps(self.model(), [*TREES, random_tree(20, 13)], engine=engine)
        with pytest.raises(ModelError, match="has 33 tokens"):
            choose_engine(self.model(), [random_tree(20, 13)])

    def test_up_to_the_length_it_is_exact(self) -> None:
        assert choose_engine(self.model(), [*TREES, random_tree(20, 12)]).engine == "tree"

    def test_the_plain_model_does_what_we_refuse(self) -> None:
        model, ids = self.model(), torch.tensor([random_tree(20, 20).prompt_ids * 2])
        with torch.no_grad():
            alone = model(input_ids=ids[:, :20]).logits
            long = model(input_ids=ids).logits[:, :20]
        assert (alone - long).abs().max() > 1e-3


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
