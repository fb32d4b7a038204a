"""From settings to a reward model that is ready to train, and from the trained one to what is saved."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from safetyvalve.errors import UsageError
from safetyvalve.rewards import RewardModel, Start, load_start
from safetyvalve.rewards.classifier import is_decoder
from safetyvalve.training.adapters import lora_config, merged, quiet_peft
from safetyvalve.training.reward.settings import RewardSettings
from safetyvalve.training.sources import ModelSource
from safetyvalve.trees import underlying

__all__ = ["build_reward", "finished", "start_of"]


def start_of(model: ModelSource, outputs: int, *, seed: int) -> Start:
    """The model that training starts from; its head is drawn from ``seed``."""
    torch.manual_seed(seed)
    return load_start(
        model.model,
        outputs,
        chat_template=model.chat_template,
        trust_remote_code=model.trust_remote_code,
        allow_pickle=model.allow_pickle,
    )


def build_reward(start: Start, settings: RewardSettings) -> RewardModel:
    """Members as the settings say; only what is trained has gradients.

    Args:
        start: with as many outputs as heads share its trunk: all members for ``heads``, else one.
        settings: of the run.

    Raises:
        UsageError: adapters a member on an encoder, whose files do not say which base they belong to.
    """
    ensemble, seed = settings.ensemble, settings.optimization.seed
    model, tokenizer = start.model, start.tokenizer
    if ensemble.sharing == "lora":
        if not is_decoder(model):
            raise UsageError(
                f"sharing 'lora' is for causal language models, and {type(model).__name__} is an encoder. Use "
                "--sharing heads or --sharing separate."
            )
        names = [f"member-{i}" for i in range(ensemble.members)]
        return RewardModel([_with_adapters(model, names, settings)], tokenizer, sharing="lora", adapters=names)
    parts = [model]
    if ensemble.sharing == "separate":
        parts += [copy.deepcopy(model) for _ in range(1, ensemble.members)]
        for index, part in enumerate(parts[1:], start=1):
            _redraw(part, seed + index)
    if ensemble.freeze:
        model.base_model.requires_grad_(False)
    if settings.fine_tuning.adapts:
        parts = [_with_adapters(p, ["default"], settings, offset=i) for i, p in enumerate(parts)]
    return RewardModel(parts, tokenizer, sharing="heads" if ensemble.sharing == "heads" else "separate")


def _with_adapters(model: Any, names: list[str], settings: RewardSettings, *, offset: int = 0) -> Any:
    """Wrapped by PEFT, with an adapter and a head of its own for each name, all of them trained."""
    from peft import get_peft_model

    config, seed = lora_config(model, settings.fine_tuning, task="SEQ_CLS"), settings.optimization.seed
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed + offset)
        with quiet_peft():
            wrapped = get_peft_model(model, config, adapter_name=names[0])
        for index, name in enumerate(names[1:], start=1):
            torch.manual_seed(seed + offset + index)
            wrapped.add_adapter(name, copy.deepcopy(config))
            _redraw_head(underlying(wrapped).score.modules_to_save[name], seed + offset + index)
    for name, parameter in wrapped.named_parameters():
        parameter.requires_grad_(any(f".{n}." in name for n in names))
    return wrapped.eval()


def _redraw(model: nn.Module, seed: int) -> None:
    """New values for the head, where the members would start alike."""
    for name, child in model.named_children():
        if name in ("score", "classifier"):
            for module in child.modules():
                if isinstance(module, nn.Linear):
                    _redraw_head(module, seed)


def _redraw_head(head: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        if parameter.dim() > 1:
            drawn = torch.randn(parameter.shape, generator=generator) * (parameter.shape[1] + 1) ** -0.5
            parameter.data.copy_(drawn)


def finished(model: RewardModel) -> RewardModel:
    """The trained model as it is saved: adapters of a shared trunk merged. The given one is used up."""
    if model.adapters:
        return model
    parts = [merged(part) if hasattr(part, "get_base_model") else part for part in model.parts]
    done = RewardModel(parts, model.tokenizer, sharing=model.sharing, widths=model.widths, record=model.record)
    done.choice = model.choice
    return done
