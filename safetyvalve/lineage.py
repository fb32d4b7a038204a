"""What a model comes from: the hash of its weights, and the record of the base it was trained from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetyvalve.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["BASE_FILE", "BaseModel", "tensors_hash", "weights_hash"]

BASE_FILE = "base_model.json"
"""Beside every trained model: where it comes from."""


@dataclass(frozen=True)
class BaseModel:
    """Where training began."""

    name: str
    """Alias, hub name, or the last part of a local folder's path (RUN/model of a run)."""
    kind: Literal["alias", "hub", "folder"]
    sha256: str
    """:func:`tensors_hash` of the model as training began, quantised where it was."""
    description: str | None = None
    """What the alias stands for."""
    revision: str | None = None
    """Commit of the hub repository."""
    license: str | None = None
    """As the base states it; None where it states none."""
    four_bit: str | None = None
    """Where the base was held in 4-bit nf4: the type that it computed in, such as ``bfloat16``."""

    def write(self, folder: Path) -> None:
        (folder / BASE_FILE).write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> BaseModel | None:
        """The record beside a model; None where there is none.

        Raises:
            ModelError: it cannot be read.
        """
        file = folder / BASE_FILE
        if not file.is_file():
            return None
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(
                f"'{file}' is not the record of a base model ({error}). Restore it from a copy, or remove it."
            ) from None


def weights_hash(model: PreTrainedModel) -> str:
    """SHA-256 over names, shapes, types and bytes of all parameters and buffers, and the model's configuration."""
    digest = hashlib.sha256()
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    if any(getattr(module, "disable_adapters", None) is True for module in model.modules()):
        digest.update(b"adapters off")  # the same tensors, another function
    _add_tensors(digest, model)
    return digest.hexdigest()


def tensors_hash(model: PreTrainedModel) -> str:
    """As :func:`weights_hash` without the configuration, to which other versions of transformers add fields."""
    digest = hashlib.sha256()
    _add_tensors(digest, model)
    return digest.hexdigest()


def _add_tensors(digest: Any, model: PreTrainedModel) -> None:
    import torch

    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
