"""What a run recorded of an evaluation, as the alarms take it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from safetyvalve.diagnostics.alarms.alarm import Estimate, Evaluation

__all__ = ["evaluation_of", "loss_of", "mean_loss"]

_DISPLACEMENT = "held_out/chosen_displacement_per_token"


def evaluation_of(
    step: int,
    metrics: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    losses: Mapping[int, float],
    before: int | None,
) -> Evaluation:
    """One evaluation from its line of ``metrics.jsonl``, its file of samples and the losses of the steps.

    The reward's uncertainty is ``proxy_spread`` of the samples, or ``proxy_width`` where there is none of that. The
    proxy's stand-in is the preference loss, which starts at its value under the reference; the whole loss moves with
    eta too.

    Args:
        step: of the evaluation.
        metrics, samples: its records.
        losses: by step, as :func:`loss_of` reads them.
        before: step of the evaluation before; None at the first.
    """
    displacement = None
    if f"{_DISPLACEMENT}_se" in metrics:
        displacement = Estimate(
            metrics[_DISPLACEMENT], metrics[f"{_DISPLACEMENT}_se"], int(metrics["held_out/compared"])
        )
    start = metrics.get("held_out/preference_loss") or metrics.get("held_out/sft_term")
    return Evaluation(
        step,
        displacement,
        tokens=_by_prompt(samples, "tokens"),
        repetition=_by_prompt(samples, "repetition"),
        score=_by_prompt(samples, "independent_score"),
        proxy=_by_prompt(samples, "proxy_reward"),
        spread=_by_prompt(samples, "proxy_spread") or _by_prompt(samples, "proxy_width"),
        training_loss=start if before is None else mean_loss(losses, before, step),
    )


def loss_of(line: Mapping[str, Any]) -> float:
    """The loss of a line of kind ``train`` that the alarms follow: of the comparisons; of SFT, which learns from none,
    and of maximin, whose policy learns from a reward, its own."""
    return float(line.get("preference_loss") or line.get("sft_term") or line["loss"])


def mean_loss(losses: Mapping[int, float], after: int, until: int) -> float | None:
    """Mean over the steps after one and up to another; None where none is known."""
    known = [loss for step, loss in losses.items() if after < step <= until]
    return math.fsum(known) / len(known) if known else None


def _by_prompt(samples: Sequence[Mapping[str, Any]], field: str) -> dict[str, float]:
    """Mean over a prompt's answers that have a finite value; prompts without one are left out."""
    groups: dict[str, list[float]] = {}
    for sample in samples:
        value = sample.get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            groups.setdefault(str(sample["probe"]), []).append(float(value))
    return {prompt: math.fsum(values) / len(values) for prompt, values in groups.items()}
