"""LoRA and QLoRA: exact forward, reference with the adapter off, and what stays as it was."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import PreTrainedModel, TrainingArguments

from safetyvalve.errors import EngineError, ModelError, UsageError
from safetyvalve.generation import sample
from safetyvalve.lineage import weights_hash
from safetyvalve.models import load_model
from safetyvalve.training import FineTuning, Forward, Objective, PolicyTrainer
from safetyvalve.training.adapters import Policies, merged, split_policy
from safetyvalve.trees import ReferenceCache, choose_engine, largest_difference, response_logps, sequence_kl
from safetyvalve.trees.decoder import own_layers
from tests.tiny import random_tree, tiny_model, tiny_tokenizer
from tests.training.helpers import examples

TREES = [random_tree(23, 17, 1, 30, seed=1), random_tree(1, 5, 12, seed=2), random_tree(40, 3, seed=3)]


def lora(model: PreTrainedModel | None = None, *, moved: bool = True, **settings: Any) -> Policies:
    """Policy and reference; ``moved`` gives the adapter weights that are not zero."""
    policies = split_policy(model or tiny_model(), FineTuning("lora", **settings), seed=0)
    if moved:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in policies.policy.named_parameters():
            if "lora_B" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return policies


def logps(policies: Policies, engine: str = "tree") -> torch.Tensor:
    with torch.no_grad():
        return response_logps(policies.policy, TREES, engine=engine).tokens


def reference_logps(policies: Policies) -> torch.Tensor:
    with torch.no_grad(), policies.reference_mode():
        return response_logps(policies.reference, TREES).tokens


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_shared_prefix_forward_is_exact(family: str) -> None:
    """Log-probabilities, and a gradient that lies in the adapter only."""
    policies = lora(tiny_model(family))
    base = response_logps(tiny_model(family), TREES).tokens
    assert (logps(policies) - base).abs().max() > 0.1
    assert largest_difference(policies.policy, TREES) < 1e-5
    gradients = {}
    for engine in ("tree", "padded"):
        policies.policy.zero_grad()
        sums = response_logps(policies.policy, TREES, engine=engine).sums()
        (sums * torch.linspace(-1, 1, len(sums))).sum().backward()
        found = {n: p.grad.clone() for n, p in policies.policy.named_parameters() if p.grad is not None}
        assert found and all("lora_" in name for name in found)
        gradients[engine] = found
    scale = max(g.abs().max() for g in gradients["padded"].values())
    assert scale > 0
    for name, gradient in gradients["padded"].items():
        assert (gradients["tree"][name] - gradient).abs().max() < 1e-5 * scale, name


def test_all_linear_layers_are_adapted_but_the_output_embedding() -> None:
    names = {n.split(".lora_")[0].rpartition(".")[2] for n, _ in lora().policy.named_parameters() if "lora_" in n}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    chosen = lora(lora_targets="q_proj, layers.1.mlp.up_proj", lora_rank=3)
    shapes = {n: p.shape for n, p in chosen.policy.named_parameters() if "lora_A" in n}
    assert len(shapes) == 4
    assert all(shape == (3, 32) for shape in shapes.values())


@pytest.mark.parametrize("target", ["nothing", "lm_head", "embed_tokens", "mlp"])
def test_targets_that_are_no_linear_layer(target: str) -> None:
    with pytest.raises(UsageError, match=rf"'{target}', which is no linear layer.*all-linear, down_proj, gate_proj"):
        lora(lora_targets=f"q_proj,{target}")


def test_the_policy_starts_as_the_reference_and_leaves_it() -> None:
    fresh = lora(moved=False)
    with own_layers():  # as a model with adapters computes them
        base = response_logps(tiny_model(), TREES).tokens
    assert torch.equal(logps(fresh), base)
    moved = lora()
    assert torch.equal(reference_logps(moved), base)
    assert not torch.equal(logps(moved), base)
    assert fresh.reference is fresh.policy.get_base_model()  # no second copy of the weights


def test_nothing_is_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_policy(tiny_model(), FineTuning("lora"), seed=0)


def test_the_start_comes_from_the_seed_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        model = tiny_model()
        torch.rand(seed + 1)  # whatever was drawn before
        state = torch.get_rng_state()
        policy = split_policy(model, FineTuning("lora"), seed=seed % 2).policy
        assert torch.equal(torch.get_rng_state(), state)
        return next(p for n, p in policy.named_parameters() if "lora_A" in n)

    a = first(0)
    assert torch.equal(a, first(2))
    assert not torch.equal(a, first(1))


@pytest.mark.parametrize("engine", ["tree", "padded"])
def test_kl_to_the_adapter_turned_off_is_that_to_a_copy(engine: str) -> None:
    policies = lora()
    found = sequence_kl(
        policies.policy, policies.reference, TREES, engine=engine, reference_mode=policies.reference_mode
    )
    with own_layers():
        expected = sequence_kl(policies.policy, tiny_model(), TREES, engine=engine)
    assert found.kl.min() > 0
    assert torch.equal(found.kl, expected.kl)
    assert torch.equal(found.log_ratio, expected.log_ratio)


def test_training_moves_the_adapter_and_leaves_every_weight_of_the_base(tmp_path: Path) -> None:
    policies = lora(moved=False)
    before = {n: p.clone() for n, p in policies.policy.named_parameters()}
    arguments = TrainingArguments(
        str(tmp_path),
        use_cpu=True,
        report_to=[],
        max_steps=3,
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        remove_unused_columns=False,
        save_strategy="no",
        label_names=[],
    )
    trainer = PolicyTrainer(
        model=policies.policy,
        args=arguments,
        objective=Objective("rpo", beta=0.1, eta=0.3),
        forward=Forward(token_budget=100),
        train_dataset=examples(tiny_model()),
    )
    trainer.train()
    moved = {n for n, p in policies.policy.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if "lora_" in n}
    with own_layers():
        assert torch.equal(reference_logps(policies), response_logps(tiny_model(), TREES).tokens)


def test_merging_keeps_the_function() -> None:
    policies = lora()
    expected = logps(policies)
    plain = merged(policies.policy)
    assert not any("lora" in name for name, _ in plain.named_parameters())
    with torch.no_grad():
        assert (response_logps(plain, TREES).tokens - expected).abs().max() < 1e-5


def test_sampling_through_the_wrapper_leaves_the_generation_settings() -> None:
    policies = lora()
    inner = policies.policy.get_base_model()
    before = inner.generation_config.to_dict()
    through, direct = (
        sample(m, tiny_tokenizer(), [[1, 2, 3]], n=2, max_new_tokens=5, seed=3) for m in (policies.policy, inner)
    )
    assert through == direct
    assert inner.generation_config.to_dict() == before


def test_a_full_and_a_lora_run_share_the_reference_cache(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    arguments: dict[str, Any] = {"engine": "tree", "token_budget": 100}
    plain = cache.sums(tiny_model(), TREES, **arguments)
    model = tiny_model()
    again = cache.sums(model, TREES, **arguments)  # as a run does it: before the adapters are there
    assert cache.hit
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_an_adapter_turned_off_is_another_function_to_the_hash() -> None:
    policies = lora()
    on = weights_hash(policies.reference)
    with policies.reference_mode():
        assert weights_hash(policies.reference) != on


def test_prompt_tuning_is_refused() -> None:
    wrapped = get_peft_model(tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(EngineError, match="PROMPT_TUNING"):
        response_logps(wrapped, TREES)


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"fine_tune": "dora"}, "fine_tune is 'dora'; accepted: full, lora, qlora"),
        ({"lora_rank": 4}, "lora_rank 4 has no meaning for fine_tune 'full'"),
        ({"merge": True}, "merge True has no meaning"),
        ({"fine_tune": "lora", "lora_rank": 0}, "lora_rank is 0"),
        ({"fine_tune": "lora", "lora_alpha": -1}, "lora_alpha is -1"),
        ({"fine_tune": "lora", "lora_targets": "q_proj,,"}, "lora_targets is 'q_proj,,'"),
        ({"save_dtype": "int8"}, "save_dtype is 'int8'; accepted: fp32, bf16"),
    ],
)
def test_bad_settings(settings: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        FineTuning(**settings)


def test_defaults() -> None:
    chosen = FineTuning("lora", lora_rank=8)
    assert (chosen.lora_alpha, chosen.lora_targets) == (16, "all-linear")
    assert FineTuning().lora_rank is None


class TestFourBit:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        tiny_model().save_pretrained(tmp_path / "m")
        tiny_tokenizer().save_pretrained(tmp_path / "m")
        return str(tmp_path / "m")

    @pytest.fixture
    def model(self, folder: str) -> PreTrainedModel:
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
        return load_model(folder, four_bit=torch.float32).model

    def test_the_forward_is_exact_on_a_four_bit_base(self, model: PreTrainedModel) -> None:
        base = response_logps(model, TREES).tokens.detach()
        assert (base - response_logps(tiny_model(), TREES).tokens).abs().max() > 0.1  # it is quantised
        fresh = lora(model, moved=False)
        assert torch.equal(reference_logps(fresh), base)
        assert torch.equal(logps(fresh), base)
        response_logps(fresh.policy, TREES).sums().sum().backward()
        with torch.no_grad():
            assert torch.equal(response_logps(fresh.policy, TREES).tokens, base)  # one kernel, before and after
        for name, parameter in fresh.policy.named_parameters():
            if "lora_B" in name:
                assert parameter.grad is not None and parameter.grad.abs().max() > 0
                parameter.data.normal_(0, 0.05)
        assert largest_difference(fresh.policy, TREES) < 1e-5

    def test_one_that_computes_in_bf16_is_compared_in_fp32(self, folder: str) -> None:
        """Else bf16's own rounding would send every QLoRA run to the plain forward."""
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
        model = load_model(folder, four_bit=torch.bfloat16).model
        layer = model.model.layers[0].self_attn.q_proj
        assert layer.compute_dtype == torch.bfloat16
        assert choose_engine(model, TREES).engine == "tree"
        assert layer.compute_dtype == torch.bfloat16

    def test_merging_rounds_nothing_away(self, model: PreTrainedModel) -> None:
        policies = lora(model)
        expected = logps(policies)
        plain = merged(policies.policy)
        assert not getattr(plain, "is_quantized", False)
        with torch.no_grad():
            assert (response_logps(plain, TREES).tokens - expected).abs().max() < 1e-5

    def test_full_fine_tuning_of_it_is_refused(self, model: PreTrainedModel) -> None:
        with pytest.raises(UsageError, match="'full' but the weights of this LlamaForCausalLM are quantised"):
            split_policy(model, FineTuning(), seed=0)

    def test_without_the_package(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
        with pytest.raises(ModelError, match=r"pip install 'safetyvalve\[qlora\]'.*--fine-tune lora"):
            load_model(folder, four_bit=torch.float32)

    def test_where_it_cannot_quantise(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        functional = pytest.importorskip("bitsandbytes.functional", reason="the extra qlora is not installed")

        def fails(*_: Any, **__: Any) -> None:
            raise NotImplementedError("no kernel for this processor")

        monkeypatch.setattr(functional, "quantize_4bit", fails)
        with pytest.raises(ModelError, match=r"cannot quantise to 4 bits on this machine.*no kernel for this"):
            load_model(folder, four_bit=torch.float32)

    def test_where_it_is_wrong(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        functional = pytest.importorskip("bitsandbytes.functional", reason="the extra qlora is not installed")
        monkeypatch.setattr(functional, "dequantize_4bit", lambda q, state: torch.zeros(64, 64))
        with pytest.raises(ModelError, match=r"an error of 1, where at most 0\.16 is possible"):
            load_model(folder, four_bit=torch.float32)
