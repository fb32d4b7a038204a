"""What is measured before the first step, kept on disk: the same weights and data give the same in every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import TokenizedExample
from safetyvalve.folders import written_whole
from safetyvalve.generation import TOKEN_BUDGET, Sample
from safetyvalve.native import kernels
from safetyvalve.training.forward import Forward
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.objective import Objective
from safetyvalve.training.observation import Observation
from safetyvalve.training.optimization import FineTuning
from safetyvalve.training.sampling import Drawn, Probe, SampleMeter
from safetyvalve.trees import underlying

__all__ = ["FirstMeasures"]


@dataclass(frozen=True)
class FirstMeasures:
    """Figures of the policy before it is trained, on held-out examples, and the answers that are drawn from it.

    An entry's name is the hash of all that it depends on: weights, tokens, settings, arithmetic, threads, our own code
    and the versions of the libraries. Scores of the answers are not kept: who gives them is the user's.
    """

    folder: Path | None
    """Where entries are kept; None keeps nothing."""
    weights: str
    """:func:`safetyvalve.lineage.weights_hash` of what the policy starts from."""
    about: str = ""
    """Of the arithmetic, see :meth:`of`."""

    def of(
        self,
        base: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fine_tuning: FineTuning,
        forward: Forward,
        *,
        seed: int,
    ) -> FirstMeasures:
        """Those of a run.

        Args:
            base: what the policy starts from. Of code that came with a model nothing is kept: it may change.
            tokenizer: its tokenizer; for one that cannot be told by its content nothing is kept.
            fine_tuning, forward: of the run.
            seed: what adapters are drawn with.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not type(underlying(base)).__module__.startswith("transformers."):
            return replace(self, folder=None)
        words = hashlib.sha256(backend.to_str().encode()).digest()
        parts = (
            *(base.dtype, torch.cuda.is_available(), forward, torch.get_num_threads(), kernels().version),
            *(torch.__version__, transformers.__version__, _source(), words),
            *((fine_tuning, seed) if fine_tuning.adapts else ()),
        )
        return replace(self, about=repr(parts))

    def held_out(self, meter: HeldOutMeter, policy: PreTrainedModel) -> dict[str, float]:
        """``meter.measure(policy)``."""
        file = self.held_out_file(meter.objective, [e.tokens for e in meter.examples])
        kept: dict[str, float] = _kept(file, lambda: meter.measure(policy))
        return kept

    def drawn(self, meter: SampleMeter, policy: PreTrainedModel) -> Drawn | None:
        """``meter.draw(policy)``; None without prompts."""
        if not meter.probes:
            return None
        prompts = [p.token_ids for p in meter.probes]
        file = self.drawn_file(prompts, meter.n, meter.max_new_tokens, meter.seed, meter.token_budget)
        samples, kl, log_ratio = _kept(file, lambda: meter.draw(policy))
        return Drawn([Sample(s[0], tuple(s[1]), *s[2:]) for s in samples], kl, log_ratio)

    def holds(
        self,
        objective: Objective,
        examples: Sequence[TokenizedExample],
        probes: Sequence[Probe],
        observation: Observation,
        *,
        seed: int,
    ) -> tuple[bool, bool]:
        """Whether a run would find its figures of held-out examples, and its answers.

        Args:
            objective: as it begins.
            examples, probes: that are measured and sampled.
            observation: gives how many answers, and their length.
            seed: of the sampling.
        """
        prompts = [p.token_ids for p in probes]
        files = (
            self.held_out_file(objective, examples),
            self.drawn_file(prompts, observation.samples_per_prompt, observation.max_new_tokens, seed, TOKEN_BUDGET),
        )
        held_out, drawn = (file is not None and file.exists() for file in files)
        return held_out, drawn

    def held_out_file(self, objective: Objective, examples: Sequence[TokenizedExample]) -> Path | None:
        """Where :meth:`held_out` keeps them."""
        return self._file("held-out", objective, [e[1:] for e in examples])

    def drawn_file(
        self, prompts: Sequence[Sequence[int]], n: int, max_new_tokens: int, seed: int, token_budget: int
    ) -> Path | None:
        """Where :meth:`drawn` keeps them."""
        return self._file("drawn", n, max_new_tokens, seed, token_budget, prompts)

    def _file(self, *parts: object) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(repr((self.weights, self.about, *parts)).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.json"


def _kept(file: Path | None, compute: Callable[[], Any]) -> Any:
    if file is not None and file.exists():
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError):
            file.unlink(missing_ok=True)  # a damaged entry is worth nothing
    value = compute()
    if file is not None:
        with written_whole(file) as place:
            place.write_text(json.dumps(value))
    return value


@cache
def _source() -> bytes:
    """Hash of our own code."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()
