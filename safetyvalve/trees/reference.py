"""Reference log-probabilities, computed once and kept on disk under what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.folders import written_whole
from safetyvalve.lineage import weights_hash
from safetyvalve.native import kernels
from safetyvalve.trees.decoder import plain_layers
from safetyvalve.trees.forward import body_of, response_logps, underlying
from safetyvalve.trees.packing import pack_by_budget, tokens_computed
from safetyvalve.trees.plan import Engine, Tree

__all__ = ["ReferenceCache"]

_FORMAT = 2
"""Of an entry."""


class ReferenceCache:
    """Sums of reference log-probabilities a response, by tree.

    An entry's name is the hash of the weights, the tokens, the arithmetic (dtype, autocast, engine, kernels, source of
    the forward, versions of torch and transformers) and the format, so that whatever changes the numbers changes the
    name.

    Args:
        folder: where entries are kept; None keeps nothing.
        weights: :func:`safetyvalve.lineage.weights_hash` of the model that every call will be given, where it is known;
            None computes it at each call.
    """

    def __init__(self, folder: Path | None, weights: str | None = None) -> None:
        self.folder, self.weights = folder, weights
        self.hit = False
        """Whether the last call was answered from disk."""

    @torch.no_grad()
    def sums(
        self,
        model: PreTrainedModel,
        trees: Sequence[Tree],
        *,
        engine: Engine,
        token_budget: int,
        autocast: torch.dtype | None = None,
        progress: Callable[[int, int], None] | None = None,
        compared: str | None = None,
    ) -> list[Tensor]:
        """[response] fp32 for each tree, in nats, on the CPU; from disk where an entry matches.

        Args:
            model: the reference policy, left in evaluation mode.
            trees: in any order; the result follows it.
            engine: the forward that training uses, so that policy and reference are equal at step 0.
            token_budget: tokens a row.
            autocast: the type that training computes in, or None.
            progress: called with trees done and their total.
            compared: what was found when the engine was compared with the plain forward, for :meth:`compared`.
        """
        file = self._file(model, trees, engine, autocast)
        if file is not None and file.exists():
            try:
                flat = load_file(file)["sums"]
                self.hit = True
                return list(flat.split([len(t.response_ids) for t in trees]))
            except (SafetensorError, KeyError, RuntimeError, OSError):
                file.unlink(missing_ok=True)  # a damaged entry is worth nothing; it is computed again
        self.hit = False
        model.eval()
        result: list[Tensor | None] = [None] * len(trees)
        done = 0
        for group in pack_by_budget([tokens_computed(t, engine) for t in trees], token_budget):
            with torch.autocast(model.device.type, dtype=autocast, enabled=autocast is not None):
                sums = response_logps(model, [trees[i] for i in group], engine=engine).sums().float().cpu()
            for i, part in zip(group, sums.split([len(trees[i].response_ids) for i in group]), strict=True):
                result[i] = part
            done += len(group)
            if progress is not None:
                progress(done, len(trees))
        complete = [part for part in result if part is not None]
        if file is not None:
            with written_whole(file) as place:
                save_file({"sums": torch.cat(complete)}, place, metadata={"compared": compared} if compared else None)
        return complete

    def holds(
        self,
        model: PreTrainedModel,
        trees: Sequence[Tree],
        *,
        engine: Engine,
        autocast: torch.dtype | None = None,
    ) -> bool:
        """Whether :meth:`sums` would be answered from disk."""
        file = self._file(model, trees, engine, autocast)
        return file is not None and file.exists()

    def compared(
        self, model: PreTrainedModel, trees: Sequence[Tree], *, autocast: torch.dtype | None = None
    ) -> str | None:
        """What was found when ``tree`` was compared with the plain forward, before :meth:`sums` left what it would now
        answer from disk; None where nothing is there."""
        if not type(underlying(model)).__module__.startswith("transformers."):
            return None  # code that came with the model may have changed, and is not in the name
        file = self._file(model, trees, "tree", autocast)
        if file is None or not file.exists():
            return None
        try:
            with safe_open(file, "pt") as entry:
                return (entry.metadata() or {}).get("compared")
        except (SafetensorError, OSError):  # damaged, or taken away meanwhile
            return None

    def _file(
        self, model: PreTrainedModel, trees: Sequence[Tree], engine: Engine, autocast: torch.dtype | None
    ) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256((self.weights or weights_hash(model)).encode())
        versions = f"{torch.__version__} {transformers.__version__}"
        used = kernels().version
        layers = "written out" if plain_layers(body_of(underlying(model))) else "own"
        digest.update(
            f"{_FORMAT} {layers} {engine} {autocast} {model.dtype} {model.device.type} {versions} {used}".encode()
        )
        digest.update(_source())
        for tree in trees:
            digest.update(json.dumps([tree.prompt_ids, tree.response_ids]).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"


@cache
def _source() -> bytes:
    """Hash of the code that computes them."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in [*sorted(package.glob("trees/*.py")), *sorted(package.glob("native/*.py")), package / "quantized.py"]:
        digest.update(file.read_bytes())
    return digest.digest()
