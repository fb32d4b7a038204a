"""Tokens kept on disk under what they depend on: the texts, their order, and the tokenizer with its chat template."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safetyvalve.data.schema import PreferenceExample
from safetyvalve.folders import written_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Sequences", "TokenCache"]

Sequences = tuple[tuple[int, ...], ...]
"""Token ids of a prompt and of each of its responses."""

_FORMAT = 1
"""Raised when tokenization changes, so that older entries are not taken."""


class TokenCache:
    """Whole examples, before anything is cut to a length.

    Args:
        folder: where entries are kept; None keeps nothing.
        tokenizer: one that is not a fast one cannot be told by its content, so that nothing is kept for it.
    """

    def __init__(self, folder: Path | None, tokenizer: PreTrainedTokenizerBase) -> None:
        self.folder = folder if getattr(tokenizer, "backend_tokenizer", None) is not None else None
        self._tokenizer = tokenizer

    def read(self, examples: Sequence[PreferenceExample]) -> list[Sequences] | None:
        """What :meth:`write` was given for these examples; None where there is nothing whole."""
        file = self._file(examples)
        if file is None or not file.exists():
            return None
        try:
            with np.load(file) as entry:
                ids, lengths, counts = (entry[name].tolist() for name in ("ids", "lengths", "counts"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            file.unlink(missing_ok=True)  # a damaged entry is worth nothing
            return None
        edges = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        parts = [tuple(ids[a:b]) for a, b in pairwise(edges)]
        places = np.concatenate([[0], np.cumsum(counts)]).tolist()
        return [tuple(parts[a:b]) for a, b in pairwise(places)]

    def write(self, examples: Sequence[PreferenceExample], tokens: Sequence[Sequences]) -> None:
        """Keep one for each example."""
        file = self._file(examples)
        if file is None:
            return
        with written_whole(file) as place, place.open("wb") as stream:
            np.savez(
                stream,
                ids=np.array([t for parts in tokens for part in parts for t in part], dtype=np.int32),
                lengths=np.array([len(part) for parts in tokens for part in parts], dtype=np.int32),
                counts=np.array([len(parts) for parts in tokens], dtype=np.int32),
            )

    def _file(self, examples: Sequence[PreferenceExample]) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(f"{_FORMAT} {self._tokenizer.eos_token!r} {self._tokenizer.chat_template!r}".encode())
        digest.update(self._tokenizer.backend_tokenizer.to_str().encode())
        for example in examples:
            digest.update(example.id.encode())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"
