"""The models that reward training starts from: any causal language model or encoder, given a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.errors import ModelError, shorten
from safetyvalve.lineage import BaseModel
from safetyvalve.models import base_record, is_adapter, load_model, load_tokenizer, resolve
from safetyvalve.rewards.classifier import classifier_class, from_causal
from safetyvalve.rewards.template import prepare_tokenizer

__all__ = ["Start", "load_start"]


class Start(NamedTuple):
    """A classifier whose head is random, its tokenizer, and where its body comes from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base: BaseModel


def load_start(
    name: str,
    outputs: int,
    *,
    chat_template: Path | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Start:
    """Load a model by alias, folder or hub name and put a head with ``outputs`` outputs on it; fp32.

    A causal language model, or an adapter of one, gives its layers. An encoder is loaded with the head that its class
    has, new where the files have none of that size. An encoder's tokenizer without a chat template gets a plain one.

    Args: as :func:`safetyvalve.models.load_model`.

    Raises:
        ModelError: it cannot be found or loaded, or its architecture takes no scalar head.
    """
    place = resolve(name)
    if is_adapter(place) or _is_decoder(place, trust_remote_code):
        causal, tokenizer = load_model(
            name, chat_template=chat_template, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
        )
        base = base_record(name, causal)
        model = from_causal(causal, outputs)
    else:
        tokenizer = load_tokenizer(name, chat_template=chat_template, trust_remote_code=trust_remote_code)
        model = _encoder(name, place, outputs, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        base = base_record(name, model.base_model)
    prepare_tokenizer(tokenizer, model)
    return Start(model, tokenizer, base)


def _is_decoder(place: str, trust_remote_code: bool) -> bool:
    config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
    config.num_labels = 1
    with torch.device("meta"):
        return hasattr(classifier_class(config)(config), "score")


def _encoder(name: str, place: str, outputs: int, *, allow_pickle: bool, **kwargs: Any) -> PreTrainedModel:
    if not allow_pickle:
        kwargs["use_safetensors"] = True
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            place,
            num_labels=outputs,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **kwargs,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model '{name}' cannot be loaded: {shorten(first, 200)} A folder or hub name of a causal language model "
            "or an encoder with safetensors is accepted."
        ) from error
    body = [k for k in info["missing_keys"] if k.startswith(f"{model.base_model_prefix}.") and "pooler" not in k]
    if body:
        raise ModelError(
            f"model '{name}' lacks {len(body)} of its weights ({', '.join(sorted(body)[:3])}...), which would be "
            "random. The files are incomplete or of another architecture; fetch them again."
        )
    encoder: PreTrainedModel = model
    return encoder.eval()
