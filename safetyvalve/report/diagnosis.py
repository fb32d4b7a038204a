"""What a run's samples tell of overoptimization: scores against sqrt(KL), the fitted forms, the proxy's gap.

A diagnosis is plain JSON, so that the file it is kept in and the page that shows it are one and the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from safetyvalve.diagnostics import FORMS, best_of_n, bootstrap_fit, gap_regression, standardised_gap
from safetyvalve.errors import RunError, UsageError
from safetyvalve.hashing import content_hash
from safetyvalve.report.record import Answer, RunRecord
from safetyvalve.report.scored_pool import PoolAnswer
from safetyvalve.stats import Interval, mean_interval

__all__ = ["FILE", "SOURCES", "diagnose", "diagnose_pool", "fingerprint"]

FILE = "diagnose.json"
"""In the run's folder."""
SOURCES = {"independent": "score", "proxy": "proxy_reward", "held_out_member": "held_out_member"}
"""Who scores, and the field of :class:`safetyvalve.report.record.Answer`."""
_COVARIATES = ("kl", "distance", "spread", "width")
_FIELDS = {"kl": "kl", "spread": "proxy_spread", "width": "proxy_width"}


def fingerprint(record: RunRecord) -> str:
    """Content hash of the samples that a diagnosis speaks of."""
    return content_hash(
        [[step, [[a.prompt_id, a.response, *a[4:]] for a in rows]] for step, rows in record.samples.items()]
    )


def diagnose(
    record: RunRecord, distances: Mapping[str, float] | None = None, *, replicates: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Diagnose a run.

    Args:
        record: of a run whose samples were scored by a proxy, an independent scorer or both.
        distances: distance of an answer from the training data by response id; None leaves that covariate out.
        replicates, seed: of the bootstrap over prompts.

    Returns:
        JSON: ``points``, ``fits`` by source and form, ``gap``, and counts of what has no score. What cannot be told has
        a ``why`` instead.

    Raises:
        RunError: the run has no samples with a score and a KL.
    """
    steps = sorted(record.samples)
    kl = {step: record.by_prompt(step, "kl") for step in steps}
    found: dict[str, Any] = {}
    for source, field in SOURCES.items():
        scores = {step: record.by_prompt(step, field) for step in steps}
        if any(scores.values()):
            found[source] = _curve(steps, kl, scores)
    if not found:
        raise RunError(
            f"the run '{record.folder}' has no samples with a score; a run of `safetyvalve train --proxy FOLDER` or "
            "--scorer NAME, with --sample-prompts above 0, is accepted."
        )
    fits = {source: _fits(curve, replicates, seed) for source, curve in found.items()}
    return {
        "format": 1,
        "run": record.name,
        "inputs": fingerprint(record),
        "points": {source: curve.points for source, curve in found.items()},
        "fits": fits,
        "gap": _gap(record, distances),
        "unscored": _unscored(record, found),
    }


class _Curve(NamedTuple):
    points: list[dict[str, Any]]
    """One an evaluation: step, kl, sqrt_kl, score and gain over the start."""
    kl: list[list[float]]
    """[prompt][point]"""
    gains: list[list[float]]
    """[prompt][point]"""
    why: str | None


def _curve(
    steps: Sequence[int], kl: Mapping[int, Mapping[str, float]], scores: Mapping[int, Mapping[str, float]]
) -> _Curve:
    """Of the evaluations that have both; on the prompts that all of these have."""
    kept = [step for step in steps if len(scores[step].keys() & kl[step].keys()) > 1]
    prompts = sorted(set.intersection(*(set(scores[s]) & set(kl[s]) for s in kept))) if kept else []
    if len(prompts) < 2 or kept[0] != steps[0]:
        why = "no_start" if len(prompts) >= 2 else "few_prompts"
        return _Curve([], [], [], why)
    points = []
    for step in kept:
        distance = mean_interval([kl[step][p] for p in prompts])
        points.append(
            {
                "step": step,
                "kl": _spelled(distance),
                "sqrt_kl": math.sqrt(max(distance.estimate, 0.0)),
                "score": _spelled(mean_interval([scores[step][p] for p in prompts])),
                "gain": _spelled(mean_interval([scores[step][p] - scores[kept[0]][p] for p in prompts])),
            }
        )
    return _Curve(
        points,
        [[kl[s][p] for s in kept] for p in prompts],
        [[scores[s][p] - scores[kept[0]][p] for s in kept] for p in prompts],
        None,
    )


def _fits(curve: _Curve, replicates: int, seed: int) -> dict[str, Any]:
    if curve.why is not None:
        return {"why": curve.why}
    moved = [i for i, point in enumerate(curve.points) if point["sqrt_kl"] > 0]
    kl, gains = ([[row[i] for i in moved] for row in table] for table in (curve.kl, curve.gains))
    result: dict[str, Any] = {}
    for form in FORMS:
        try:
            fit = bootstrap_fit(form, kl, gains, replicates=replicates, seed=seed)
        except UsageError:
            return {"why": "few_evaluations"}
        peak = fit.peak
        result[form] = {
            "alpha": _spelled(fit.alpha),
            "beta": _spelled(fit.beta),
            "residual": fit.residual,
            "reach": fit.reach,
            "points": fit.n_points,
            "prompts": fit.n_prompts,
            "peak": {
                "kind": peak.kind,
                "distance": peak.distance and _spelled(peak.distance),
                "height": peak.height and _spelled(peak.height),
                "share_within": peak.share_within,
            },
        }
    return result


def _gap(record: RunRecord, distances: Mapping[str, float] | None) -> dict[str, Any]:
    """Proxy against the independent score, or the held-out member where there is none."""
    answers = [(step, a) for step in sorted(record.samples) for a in record.samples[step] if a.proxy_reward is not None]
    if not answers:
        return {"why": "no_proxy"}
    against = next((s for s in ("independent", "held_out_member") if _count(answers, SOURCES[s])), None)
    if against is None:
        return {"why": "no_other"}
    rows = [(step, a) for step, a in answers if getattr(a, SOURCES[against]) is not None and a.kl is not None]
    columns = {name: _column(name, rows, distances) for name in _COVARIATES}
    present = {name: values for name, values in columns.items() if any(v is not None for v in values)}
    whole = [i for i in range(len(rows)) if all(values[i] is not None for values in present.values())]
    rows = [rows[i] for i in whole]
    start = min(record.samples)
    try:
        gap = standardised_gap(
            [a.proxy_reward for _, a in rows],  # type: ignore[misc]
            [getattr(a, SOURCES[against]) for _, a in rows],
            [step == start for step, _ in rows],
        )
        chosen = {name: [float(values[i] or 0.0) for i in whole] for name, values in present.items()}
        found = gap_regression(gap, chosen, [a.prompt_id for _, a in rows])
    except UsageError as error:
        return {"why": "refused", "reason": str(error), "against": against}
    return {
        "against": against,
        "intercept": _spelled(found.intercept),
        "terms": [t._asdict() | {"coefficient": _spelled(t.coefficient)} for t in found.terms],
        "absent": [name for name in _COVARIATES if name not in present],
        "left_out": dict(found.left_out),
        "r_squared": found.r_squared,
        "samples": found.n_samples,
        "prompts": found.n_prompts,
        "incomplete": len(answers) - len(rows),
        "cautions": list(found.cautions),
        "by_step": _gap_by_step(rows, gap.tolist()),
    }


def _gap_by_step(rows: Sequence[tuple[int, Answer]], gap: Sequence[float]) -> list[dict[str, Any]]:
    result = []
    for step in sorted({step for step, _ in rows}):
        by_prompt: dict[str, list[float]] = {}
        for (at, answer), value in zip(rows, gap, strict=True):
            if at == step:
                by_prompt.setdefault(answer.prompt_id, []).append(value)
        means = [sum(v) / len(v) for v in by_prompt.values()]
        result.append({"step": step, "gap": _spelled(mean_interval(means))})
    return result


def _count(answers: Sequence[tuple[int, Answer]], field: str) -> int:
    return sum(getattr(a, field) is not None for _, a in answers)


def _column(name: str, rows: Sequence[tuple[int, Answer]], distances: Mapping[str, float] | None) -> list[float | None]:
    if name == "distance":
        return [(distances or {}).get(a.response_id) for _, a in rows]
    return [getattr(a, _FIELDS[name]) for _, a in rows]


def _unscored(record: RunRecord, found: Mapping[str, Any]) -> dict[str, Any]:
    """Samples without a score, by source, and without a KL."""
    answers = [a for rows in record.samples.values() for a in rows]
    counts = Counter({source: sum(getattr(a, SOURCES[source]) is None for a in answers) for source in found})
    return {"samples": len(answers), **counts, "kl": sum(a.kl is None for a in answers)}


def diagnose_pool(answers: Sequence[PoolAnswer]) -> dict[str, Any]:
    """Best-of-n curves from one pool of scored answers.

    Answers without a proxy score are left out and counted; an independent score counts only where every answer that is
    kept has one. The curve ends at the smallest number of answers of a prompt, so that every n speaks of all prompts.

    Raises:
        RunError: no prompt has two answers with a proxy score.
    """
    groups: dict[str, list[PoolAnswer]] = {}
    for answer in answers:
        groups.setdefault(answer.prompt_id, []).append(answer)
    with_gold = any(a.score is not None for a in answers)
    kept = {
        prompt: [a for a in rows if a.proxy is not None and (a.score is not None or not with_gold)]
        for prompt, rows in groups.items()
    }
    whole = [rows for rows in kept.values() if len(rows) > 1]
    if not whole:
        raise RunError(
            f"none of the pool's {len(groups)} prompts has two answers with a proxy score; best-of-n needs several. "
            "Draw more (`safetyvalve sample -n 8`), and score them with `safetyvalve reward score`."
        )
    proxy = [[float(a.proxy or 0.0) for a in rows] for rows in whole]
    gold = [[float(a.score or 0.0) for a in rows] for rows in whole] if with_gold else None
    curve = best_of_n(proxy, gold)
    return {
        "format": 1,
        "answers": len(answers),
        "prompts": len(whole),
        "prompts_left_out": len(groups) - len(whole),
        "unscored_proxy": sum(a.proxy is None for a in answers),
        "unscored_independent": sum(a.score is None for a in answers) if with_gold else None,
        "curve": [
            {
                "n": point.n,
                "kl": point.kl,
                "proxy": _spelled(point.proxy),
                "independent": point.score and _spelled(point.score),
            }
            for point in curve
        ],
    }


def _spelled(interval: Interval) -> dict[str, Any]:
    """As JSON, which has no word for infinity: None."""
    values = interval._asdict()
    return {k: v if isinstance(v, int) or math.isfinite(v) else None for k, v in values.items()}
