"""Adapters: low-rank updates of linear layers, the policy with them on and the reference with them off.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv 2106.09685.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from safetyvalve.errors import UsageError
from safetyvalve.training.optimization import ALL_LINEAR, FineTuning

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

__all__ = ["Policies", "lora_config", "merged", "quiet_peft", "split_policy"]


class Policies(NamedTuple):
    """What is trained and what it is held against."""

    policy: PreTrainedModel | PeftModel
    reference: PreTrainedModel
    """A copy of its own, or the model inside the policy."""
    reference_mode: Callable[[], AbstractContextManager[object]] = nullcontext
    """Within it ``reference`` is the reference policy: it turns the adapter off."""


def split_policy(model: PreTrainedModel, fine_tuning: FineTuning, *, seed: int) -> Policies:
    """Make the policy and its reference of one model; they are equal until something is trained.

    Args:
        model: full fine-tuning trains it in place and copies it for the reference. Otherwise adapters are put into its
            layers, nothing is copied, and only they have gradients.
        fine_tuning: settings.
        seed: of the adapters' start; their second factor is zero, so that they change nothing yet.

    Raises:
        UsageError: a target that is no linear layer of the model, or full fine-tuning of a quantised model.
    """
    if not fine_tuning.adapts:
        if getattr(model, "is_quantized", False):
            raise UsageError(
                f"fine_tune is 'full' but the weights of this {type(model).__name__} are quantised, which have no "
                "gradient. Use --fine-tune lora, or a model that is not quantised."
            )
        return Policies(model, copy.deepcopy(model).eval().requires_grad_(False))
    from peft import get_peft_model

    config = lora_config(model, fine_tuning, task="CAUSAL_LM")
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        with quiet_peft():
            policy = get_peft_model(model, config).train(model.training)  # the wrapper alone would say that it trains
    if Path(model.name_or_path).is_dir():  # it is loaded from other folders than it was trained in
        policy.peft_config["default"].base_model_name_or_path = str(Path(model.name_or_path).resolve())
    return Policies(policy, model, policy.disable_adapter)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without the warning that PEFT 0.21 causes: it asks transformers 5.23 by a name that is about to go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.* is deprecated", FutureWarning)
        yield


def lora_config(model: PreTrainedModel, fine_tuning: FineTuning, *, task: str) -> LoraConfig:
    """PEFT's settings of the adapters; ``task`` is PEFT's name of what the model is for."""
    from peft import LoraConfig

    return LoraConfig(
        r=fine_tuning.lora_rank,
        lora_alpha=fine_tuning.lora_alpha,
        target_modules=_targets(model, str(fine_tuning.lora_targets)),
        lora_dropout=0.0,  # the forward has none; see PolicyTrainer
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),
        task_type=task,
    )


def _targets(model: PreTrainedModel, wanted: str) -> str | list[str]:
    """As PEFT takes them: ends of the names of layers."""
    if wanted == ALL_LINEAR:
        return wanted
    head = model.get_output_embeddings()
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    parts = [part.strip() for part in wanted.split(",")]
    for part in parts:
        if not any(name == part or name.endswith("." + part) for name in linear):
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise UsageError(
                f"lora_targets has '{part}', which is no linear layer of this {type(model).__name__} (the output "
                f"embedding takes no adapter). Accepted: {ALL_LINEAR}, {', '.join(known)}."
            )
    return parts


def merged(policy: PeftModel) -> PreTrainedModel:
    """The plain model that computes what the policy does; the policy is used up.

    A base in 4 bits is brought back to fp32 before: merging into 4 bits would round what was learned away.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    if getattr(policy.get_base_model(), "is_quantized", False):
        config, state = policy.peft_config["default"], get_peft_model_state_dict(policy, save_embedding_layers=False)
        policy = get_peft_model(policy.unload().dequantize(), config)
        set_peft_model_state_dict(policy, state)
    model: PreTrainedModel = policy.merge_and_unload()
    return model
