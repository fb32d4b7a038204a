"""What the independent scores of a report's runs show, as numbers; the words are put elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from safetyvalve.diagnostics import Comparison, RunVerdict, compare_final, judge_run
from safetyvalve.report.record import RunRecord, number
from safetyvalve.stats import Interval, mean_interval

__all__ = ["Evidence", "FinalComparison", "Pair", "compare_runs", "evidence_of", "final_interval"]

Status = Literal["unscored", "undetermined", "overoptimized", "worse", "improved", "no_change"]

_POSSIBLE = {
    "tokens": (0.0, math.inf),
    "kl": (0.0, math.inf),
    "repetition": (0.0, 1.0),
    "finished": (0.0, 1.0),
}


class Evidence(NamedTuple):
    """What one run's scores show.

    ``status`` is ``unscored`` (no independent score at all), ``undetermined`` (too few evaluations or prompts with
    one), or the kind of the verdict.
    """

    run: str
    status: Status
    steps: tuple[int, ...] = ()
    """Evaluations whose answers have scores and for which a training loss is known."""
    means: tuple[float, ...] = ()
    """[evaluation] mean score over the prompts that all of them have."""
    final: Mapping[str, float] = MappingProxyType({})
    """Score by prompt at the last of them, mean over the prompt's answers."""
    n_prompts: int = 0
    """Prompts behind ``means`` and the verdict."""
    verdict: RunVerdict | None = None


class Pair(NamedTuple):
    """The best run against another one."""

    other: str
    other_mean: float
    result: Comparison
    """First is the best run."""


class FinalComparison(NamedTuple):
    """Final scores compared, on the prompts that all compared runs share."""

    best: str
    best_mean: float
    pairs: tuple[Pair, ...]
    n_prompts: int
    confidence: float
    """Of each interval."""


def evidence_of(record: RunRecord) -> Evidence:
    """Judge a run by its independent scores."""
    scores = {step: record.by_prompt(step, "score") for step in sorted(record.samples)}
    scores = {step: by_prompt for step, by_prompt in scores.items() if by_prompt}
    if not scores:
        return Evidence(record.name, "unscored")
    losses = _training_losses(record, list(scores))
    if not losses:
        return Evidence(record.name, "undetermined")
    steps = tuple(losses)
    prompts = sorted(set.intersection(*(set(scores[step]) for step in steps)))
    table = [[scores[step][prompt] for prompt in prompts] for step in steps]
    means = tuple(sum(row) / len(row) for row in table) if prompts else ()
    base = Evidence(record.name, "undetermined", steps, means, scores[steps[-1]], len(prompts))
    if len(steps) < 2 or len(prompts) < 2:
        return base
    verdict = judge_run(table, list(losses.values()), steps)
    return base._replace(status=verdict.kind, verdict=verdict)


def _training_losses(record: RunRecord, steps: Sequence[int]) -> dict[int, float]:
    """Mean training loss of the steps since the evaluation before; for the first, that of the first step.

    A step's loss is measured before its update, so the first step's is the untrained model's. Evaluations for which no
    loss is recorded are left out.
    """
    # Where eta moves, so does the SFT term with it; the loss of the comparisons is what stays the same measure.
    name = "preference_loss" if record.config.get("max_displacement") is not None else "loss"
    known = [(int(line["step"]), loss) for line in record.train if (loss := number(line.get(name))) is not None]
    result = {}
    for before, step in zip([-1, *steps], steps, strict=False):
        here = [loss for at, loss in known if before < at <= max(step, 1)]
        if here:
            result[step] = sum(here) / len(here)
    return result


def compare_runs(evidence: Sequence[Evidence]) -> FinalComparison | None:
    """Compare the run that ends highest with each other run, by paired intervals on the prompts they all share.

    The best run is picked by looking at the same scores, so each interval allows for all n (n - 1) / 2 pairs of runs,
    not only for the n - 1 that are shown.

    Returns:
        None where fewer than two runs have scores, or they share fewer than two prompts.
    """
    scored = [e for e in evidence if e.final]
    shared = sorted(set.intersection(*(set(e.final) for e in scored))) if scored else []
    if len(scored) < 2 or len(shared) < 2:
        return None
    rows = {e.run: [e.final[prompt] for prompt in shared] for e in scored}
    means = {run: sum(row) / len(row) for run, row in rows.items()}
    best = max(means, key=lambda run: means[run])
    confidence = 1 - 0.05 / (len(rows) * (len(rows) - 1) / 2)
    others = sorted((run for run in rows if run != best), key=lambda run: means[run])
    pairs = tuple(Pair(run, means[run], compare_final(rows[best], rows[run], confidence=confidence)) for run in others)
    return FinalComparison(best, means[best], pairs, len(shared), confidence)


def final_interval(record: RunRecord, step: int, field: str) -> Interval | None:
    """Mean over prompts of a field of the answers at a step, with its 95% interval; None where nothing is there.

    Intervals of shares, lengths and KL end where no value is possible any more.
    """
    values = list(record.by_prompt(step, field).values())
    if not values:
        return None
    interval = mean_interval(values)
    least, most = _POSSIBLE.get(field, (-math.inf, math.inf))
    return (
        interval._replace(low=max(interval.low, least), high=min(interval.high, most)) if len(values) > 1 else interval
    )
