"""Whole models to files, in the precision that they are to be kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["save_whole"]


def save_whole(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """Write weights and configuration so that transformers loads them in ``dtype``."""
    model.save_pretrained(folder, state_dict=_cast(model.state_dict(), dtype))
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")  # transformers wrote that of the model in memory
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _cast(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floating tensors in ``dtype``; tensors that were one stay one, since a tied embedding is saved once."""
    seen: dict[tuple[int, torch.Size], Tensor] = {}
    result = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            result[name] = tensor
            continue
        key = (tensor.data_ptr(), tensor.shape)
        if key not in seen:
            seen[key] = tensor.to(dtype)
        result[name] = seen[key]
    return result
