"""``--select independent``: the weights of the evaluation with the best independent score become the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from safetyvalve.training.disk import explain_full_disk, sync
from safetyvalve.training.folder import RunFolder
from safetyvalve.training.sampling import Probe, SampleMeter

__all__ = ["Selection", "says", "select"]

_NAME = re.compile(r"step-(\d+)\.safetensors")
_SCORE = "samples/independent_score"


class Selection:
    """Keeps the trained weights of the best evaluation so far in ``selected/``; of equal ones, the first.

    A candidate replaces the one before only once a checkpoint stands at or after its step: a run that resumes from an
    earlier checkpoint would otherwise have lost the best weights before it.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path / "selected"
        self.best: tuple[float, int] | None = None
        """Score and step."""
        for line in folder.metrics():
            if line["kind"] == "evaluation":
                self._better(line["step"], line)
        last = max((line["step"] for line in folder.metrics()), default=-1)
        for step, file in self._files():
            if step > last:
                file.unlink()

    def see(self, step: int, metrics: dict[str, float], policy: PreTrainedModel) -> None:
        """Keep the policy's trained weights if this evaluation is the best so far."""
        if not self._better(step, metrics):
            return
        self.path.mkdir(exist_ok=True)
        partial = self.path / "partial.tmp"
        state = {name: p.detach().cpu().contiguous() for name, p in policy.named_parameters() if p.requires_grad}
        with explain_full_disk(self.path, f"the selected weights of step {step}"):
            save_file(state, partial)
            sync(partial)
            partial.replace(self._file(step))

    def settle(self) -> None:
        """Forget all candidates but the best; called once a checkpoint stands after it."""
        for step, file in self._files():
            if self.best is None or step != self.best[1]:
                file.unlink()

    def restore(self, policy: PreTrainedModel) -> int | None:
        """Put the best weights into the policy; returns their step, or None where no evaluation had a score."""
        if self.best is None:
            return None
        step = self.best[1]
        state = load_file(self._file(step))
        with torch.no_grad():
            for name, p in policy.named_parameters():
                if p.requires_grad:
                    p.copy_(state[name])
        return step

    def _better(self, step: int, metrics: dict[str, float]) -> bool:
        score = metrics.get(_SCORE)
        if score is None or (self.best is not None and score <= self.best[0]):
            return False
        self.best = (score, step)
        return True

    def _file(self, step: int) -> Path:
        return self.path / f"step-{step:06d}.safetensors"

    def _files(self) -> Iterator[tuple[int, Path]]:
        for file in list(self.path.glob("step-*.safetensors")):
            if match := _NAME.fullmatch(file.name):
                yield int(match[1]), file


def select(
    selection: Selection,
    policy: PreTrainedModel,
    meter: Callable[..., SampleMeter],
    probes: Sequence[Probe],
    prompts: int,
    seed: int,
) -> dict[str, Any]:
    """Put the best weights into the policy and score fresh answers of it, for ``selection.json``.

    The score that it was selected by is the highest of several noisy ones and so biased upwards. Fresh answers, of
    another seed, do not have that bias; on other prompts, where enough are held out, neither has the choice of prompts.

    Args:
        selection: with at least one scored evaluation.
        policy: is given the best weights.
        meter: makes a meter from probes and a seed.
        probes: held-out prompts; the first ``prompts`` were those of the evaluations.
        prompts: sampled at an evaluation.
        seed: of the evaluations.
    """
    step = selection.restore(policy)
    assert step is not None and selection.best is not None
    others = probes[prompts:]
    fresh_prompts = len(others) >= max(2, prompts // 2)
    chosen = others if fresh_prompts else probes[:prompts]
    values, _ = meter(chosen, seed=(seed + 1) % 2**32).measure(policy)
    return {
        "step": step,
        "selected_by": selection.best[0],
        "fresh_score": values.get(_SCORE),
        "fresh_score_se": values.get(f"{_SCORE}_se"),
        "fresh_prompts": len(chosen),
        "other_prompts": fresh_prompts,
    }


def says(selected: dict[str, Any]) -> str:
    """One line for a person."""
    error = selected["fresh_score_se"]
    spread = "" if error is None else f" (standard error {error:.3f})"
    where = "other held-out prompts" if selected["other_prompts"] else "the same prompts"
    fresh = "were not scored" if selected["fresh_score"] is None else f"score {selected['fresh_score']:.3f}{spread}"
    return (
        f"best independent score of the evaluations, {selected['selected_by']:.3f}, which is biased upwards by the "
        f"choice; fresh answers to {selected['fresh_prompts']} {where} {fresh}"
    )
