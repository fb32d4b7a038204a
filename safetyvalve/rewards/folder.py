"""Reward models as folders.

``heads`` is one sequence classifier with an output a member; ``separate`` has one each in ``member-0``, ``member-1``
and so on; ``lora`` has an adapter each there, whose base is named and held to its hash. Plain transformers loads the
classifiers, PEFT the adapters. ``reward.json`` has the record, ``width.safetensors`` the widths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from safetyvalve.errors import ModelError, shorten
from safetyvalve.lineage import BaseModel
from safetyvalve.models import is_adapter, load_base, load_tokenizer, resolve
from safetyvalve.rewards.classifier import classifier_class, from_causal
from safetyvalve.rewards.model import RewardModel
from safetyvalve.rewards.record import RECORD_FILE, RewardRecord
from safetyvalve.rewards.width import Width
from safetyvalve.weights import save_whole

__all__ = ["ensemble_hash", "load_reward", "reward_folder", "save_reward"]

WIDTH_FILE = "width.safetensors"


def reward_folder(name: str) -> Path | None:
    """The folder of a reward model that safetyvalve trained, by its own name or that of its run; None for others."""
    for folder in (Path(name), Path(name) / "model"):
        if (folder / RECORD_FILE).is_file():
            return folder
    return None


def ensemble_hash(model: RewardModel, *, saved_as: torch.dtype = torch.float32) -> str:
    """SHA-256 over names, shapes and values of the weights of all members, as they are loaded again.

    Args:
        model: with plain classifiers, or with adapters.
        saved_as: precision that trained weights go through on their way to the disk and back.
    """
    digest = hashlib.sha256()
    for classifier in model.parts:
        for name, tensor in sorted(classifier.state_dict().items()):
            if ".original_module." in name:
                continue  # the head that PEFT put aside for the members' own
            if not model.adapters or any(f".{adapter}." in name for adapter in model.adapters):
                tensor = tensor.to(saved_as)
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_reward(
    model: RewardModel,
    folder: Path,
    record: RewardRecord,
    *,
    dtype: torch.dtype = torch.float32,
    base: BaseModel | None = None,
) -> None:
    """Write the model with its tokenizer, widths and record.

    Args:
        model: with plain classifiers, or for ``lora`` one that PEFT wrapped.
        folder: to make.
        record: its hash, members, sharing and engine are filled in here.
        dtype: of the saved weights.
        base: of the adapters of ``lora``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if model.sharing == "lora":
        _save_adapters(model, folder, dtype, base)
    else:
        for index, classifier in enumerate(model.parts):
            place = folder / f"member-{index}" if model.sharing == "separate" else folder
            save_whole(classifier, place, dtype)
            if model.sharing == "separate":
                model.tokenizer.save_pretrained(place)
    model.tokenizer.save_pretrained(folder)
    if base is not None:
        base.write(folder)
    if model.widths:
        tensors = {f"{name}.{i}": getattr(w, name) for i, w in enumerate(model.widths) for name in ("factor", "center")}
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / WIDTH_FILE)
    digest = ensemble_hash(model, saved_as=dtype)
    engine = model.choice.engine if model.choice else record.engine
    record = replace(record, sharing=model.sharing, members=model.members, engine=engine, weights_sha256=digest)
    record.write(folder)


def _save_adapters(model: RewardModel, folder: Path, dtype: torch.dtype, base: BaseModel | None) -> None:
    (wrapped,) = model.parts
    for name in model.adapters:
        wrapped.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False)
        place = folder / name
        model.tokenizer.save_pretrained(place)
        file = place / "adapter_model.safetensors"
        save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
        if base is not None:
            base.write(place)
        for card in (place / "README.md", folder / "README.md"):
            card.unlink(missing_ok=True)  # PEFT's card to fill in


def load_reward(name: str, *, chat_template: Path | None = None, trust_remote_code: bool = False) -> RewardModel:
    """Load a reward model.

    Args:
        name: the folder of one that safetyvalve trained, that of its run, or a folder or hub name of any sequence
            classifier with one output; safetensors only.
        chat_template: a Jinja file that replaces the tokenizer's template.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        ModelError: it cannot be found or loaded, a member is missing, or its head is not in the files.
    """
    folder = reward_folder(name)
    if folder is None:
        return _foreign(name, chat_template, trust_remote_code)
    record = RewardRecord.read(folder)
    assert record is not None
    place = folder if record.sharing == "heads" else folder / "member-0"
    if not place.is_dir():
        raise ModelError(f"'{folder}' lacks member-0, which its {RECORD_FILE} names. Restore it from a copy.")
    tokenizer = load_tokenizer(str(place), chat_template=chat_template, trust_remote_code=trust_remote_code)
    common: dict[str, Any] = {"sharing": record.sharing, "engine": record.engine, "record": record}
    common["widths"] = _widths(folder, record)
    if record.sharing == "lora":
        names = [f"member-{i}" for i in range(record.members)]
        model = RewardModel([_with_adapters(folder, names)], tokenizer, adapters=names, **common)
    else:
        separate = record.sharing == "separate"
        places = [folder / f"member-{i}" for i in range(record.members)] if separate else [folder]
        model = RewardModel([_classifier(str(p), trust_remote_code) for p in places], tokenizer, **common)
    if model.members != record.members:
        raise ModelError(
            f"'{folder}' holds {model.members} members where its {RECORD_FILE} names {record.members}: one is missing "
            "or from elsewhere. Restore the folder from a copy."
        )
    return model


def _foreign(name: str, chat_template: Path | None, trust_remote_code: bool) -> RewardModel:
    place = resolve(name)
    tokenizer = load_tokenizer(name, chat_template=chat_template, trust_remote_code=trust_remote_code)
    if is_adapter(place):
        raise ModelError(f"'{name}' is an adapter without {RECORD_FILE}. Merge it into its base, and name that folder.")
    model = _classifier(place, trust_remote_code)
    if model.config.num_labels != 1:
        raise ModelError(f"model '{name}' has {model.config.num_labels} outputs; a reward model with one is accepted.")
    return RewardModel([model], tokenizer)


def _classifier(place: str, trust_remote_code: bool) -> PreTrainedModel:
    kwargs: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
        known = type(config) in AutoModelForSequenceClassification._model_mapping
        if known or trust_remote_code:
            kwargs["trust_remote_code"] = trust_remote_code
            model, info = AutoModelForSequenceClassification.from_pretrained(place, **kwargs)
        else:
            model, info = classifier_class(config).from_pretrained(place, **kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"reward model '{place}' cannot be loaded: {shorten(first, 200)} A folder that `safetyvalve reward train` "
            "made, or a folder or hub name of a sequence classifier with safetensors, is accepted."
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"model '{place}' lacks {len(missing)} weights ({', '.join(missing[:3])}), which would be random: it is no "
            "trained reward model. Name one that was saved with its scalar head."
        )
    classifier: PreTrainedModel = model
    return classifier.eval()


def _with_adapters(folder: Path, names: Sequence[str]) -> PreTrainedModel:
    from peft import PeftModel

    for name in names:
        if not (folder / name / "adapter_model.safetensors").is_file():
            raise ModelError(f"'{folder}' lacks {name}/adapter_model.safetensors, a member. Restore it from a copy.")
    base = from_causal(load_base(folder / names[0], use_safetensors=True), 1)
    wrapped = PeftModel.from_pretrained(base, folder / names[0], adapter_name=names[0])
    for name in names[1:]:
        wrapped.load_adapter(folder / name, adapter_name=name)
    return wrapped.eval()


def _widths(folder: Path, record: RewardRecord) -> list[Width]:
    if record.width is None:
        return []
    try:
        tensors = load_file(folder / WIDTH_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"'{folder / WIDTH_FILE}' cannot be read ({error}). Restore it from a copy.") from None
    return [Width(tensors[f"factor.{i}"], tensors[f"center.{i}"]) for i in range(len(tensors) // 2)]
