"""The trained model as files that transformers, PEFT and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.lineage import BaseModel
from safetyvalve.training.adapters import merged
from safetyvalve.training.optimization import FineTuning
from safetyvalve.trees import underlying
from safetyvalve.weights import save_whole

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["ADAPTER_FOLDER", "TrainedModel"]

ADAPTER_FOLDER = "adapter"
"""Inside a merged model's folder: the adapter it was merged from."""


class TrainedModel:
    """What training leaves: saved by :meth:`save_pretrained` as an adapter, a merged model or a whole one.

    Args:
        policy: the trained model. Merging uses it up.
        tokenizer: its tokenizer, with the chat template that it was trained with.
        fine_tuning: says what is saved.
        base: where training began, for the record; None writes none.
    """

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        fine_tuning: FineTuning,
        base: BaseModel | None = None,
    ) -> None:
        self.policy, self.tokenizer, self.fine_tuning, self.base = policy, tokenizer, fine_tuning, base

    def save_pretrained(self, save_directory: Path, /) -> None:
        """Write weights, configuration, tokenizer, generation settings and the record of the base."""
        dtype = self.fine_tuning.saved_as
        generation = _generation(underlying(self.policy), self.tokenizer)
        adapter = save_directory / ADAPTER_FOLDER if self.fine_tuning.merge else save_directory
        folders = {adapter, save_directory} if self.fine_tuning.adapts else {save_directory}
        if self.fine_tuning.adapts:
            _save_adapter(self.policy, adapter, dtype)
        if self.fine_tuning.merge or not self.fine_tuning.adapts:
            save_whole(merged(self.policy) if self.fine_tuning.merge else self.policy, save_directory, dtype)
        for folder in folders:
            self.tokenizer.save_pretrained(folder)
            generation.save_pretrained(folder)
            if self.base is not None:
                self.base.write(folder)


def _generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The model's own, ending at the chat's end token too: a server that did not know it would go on to its limit."""
    settings: GenerationConfig = GenerationConfig.from_dict(model.generation_config.to_dict())
    known = settings.eos_token_id
    ends = [] if known is None else [known] if isinstance(known, int) else list(known)
    if tokenizer.eos_token_id not in ends:
        ends.append(tokenizer.eos_token_id)
    settings.eos_token_id = ends[0] if len(ends) == 1 else ends
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id
    return settings


def _save_adapter(policy: PeftModel, folder: Path, dtype: torch.dtype) -> None:
    state = {name: p.detach().to(dtype) for name, p in policy.named_parameters() if p.requires_grad}
    policy.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's card to fill in; ours holds what is known
