"""What an experiment found so far, from its files: gold against KL, a table, a figure, and every number as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.diagnostics import Fit, bootstrap_fit
from safetyvalve.errors import RunError, UsageError
from safetyvalve.lab.experiment.optimise import Point, best_of_n_points, policy_points
from safetyvalve.lab.experiment.pool import Division, Pool, divide, read_pool
from safetyvalve.lab.experiment.proxy import PROXY_FILE, Proxy, accuracy, read_proxy
from safetyvalve.lab.experiment.settings import BEST_OF_N, METHODS, POLICIES, LabSettings, read_lab
from safetyvalve.lab.experiment.stages import Row, stage
from safetyvalve.report.evidence import evidence_of
from safetyvalve.report.record import read_run
from safetyvalve.stats import Interval, mean_interval
from safetyvalve.testbed.output import Outcome, Table, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["report_lab"]

Floats = NDArray[np.float64]
PAIRS = (
    ("rpo", "dpo"),
    ("dpo-pessimistic", "dpo"),
    ("bon-mean", "bon-single"),
    ("bon-pessimistic", "bon-mean"),
    ("bon-mean", "dpo"),
)
"""Compared at the end of each, on the same seeds."""


class _Seed(NamedTuple):
    seed: int
    proxy: Proxy
    division: Division
    curves: dict[str, list[Point]]
    verdicts: dict[str, str]
    """Of the policies, by method."""


def report_lab(folder: Path) -> Outcome:
    """Table, figure and CSV of the experiment in ``folder``, finished or not.

    Raises:
        RunError: there is no experiment, or no seed with a proxy yet.
        DataError: files that do not belong together.
    """
    settings, gold = read_lab(folder)
    pool = read_pool(folder)
    numbers = sorted(int(p.parent.name.removeprefix("seed-")) for p in folder.glob(f"seed-*/{PROXY_FILE}"))
    if not numbers:
        raise RunError(f"'{folder}' has no seed with a trained proxy yet. Go on with `safetyvalve lab run`.")
    seeds = [_read_seed(folder, settings, pool, n) for n in numbers]
    tables = {
        "lab_methods": _methods_table(seeds),
        "lab_differences": _differences_table(seeds),
        "lab_proxies": _proxies_table(seeds, pool),
    }
    raw = {"lab_points": _points_table(seeds), "lab_prompts": _prompts_table(seeds)}
    return Outcome("lab", _headline(settings, gold, pool, seeds), tables, raw, {"lab": _figure(seeds)})


def _read_seed(folder: Path, settings: LabSettings, pool: Pool, seed: int) -> _Seed:
    place = folder / f"seed-{seed}"
    proxy, division = read_proxy(place, settings, pool), divide(pool, settings, seed)
    curves: dict[str, list[Point]] = {}
    for point in best_of_n_points(pool, proxy, division):
        curves.setdefault(point.method, []).append(point)
    verdicts = {}
    for method in POLICIES:
        if (file := place / f"{method}.jsonl").is_file():
            rows = stage(file, list)
            curves[method] = policy_points(method, rows, pool, proxy)
            verdicts[method] = _verdict(place / method, rows)
    return _Seed(seed, proxy, division, curves, verdicts)


def _verdict(run: Path, rows: Sequence[Row]) -> str:
    """As a run's report judges it, with the gold as the independent score."""
    record = read_run(run)
    scores = {(r["step"], r["response_id"]): r["gold"] for r in rows}
    order = {step: [r["response_id"] for r in rows if r["step"] == step] for step in record.samples}
    samples = {
        step: [a._replace(score=scores[(step, name)]) for a, name in zip(answers, order[step], strict=True)]
        for step, answers in record.samples.items()
    }
    return evidence_of(replace(record, samples=samples)).status


def _having(seeds: Sequence[_Seed], *methods: str) -> list[_Seed]:
    return [s for s in seeds if all(s.curves.get(m) for m in methods)]


def _at_end(seeds: Sequence[_Seed], method: str, field: str, less: str | None = None) -> list[float]:
    """At the largest strength that all seeds reached: the mean over prompts of each seed; of a single seed each prompt.

    Args:
        seeds: that have the methods.
        method: whose ``field`` is asked for.
        field: of :class:`Point`.
        less: a method whose value on the same prompts is taken off.
    """
    each = [_by_prompt(_at(s, method, _shared_strengths(seeds, method)[-1]), field) for s in seeds]
    if less is not None:
        others = [_by_prompt(_at(s, less, _shared_strengths(seeds, less)[-1]), field) for s in seeds]
        each = [{n: v - o[n] for n, v in e.items() if n in o} for e, o in zip(each, others, strict=True)]
    if len(seeds) == 1:
        return list(each[0].values())
    return [float(np.mean(list(e.values()))) for e in each if e]


def _by_prompt(point: Point, field: str) -> dict[str, float]:
    values = zip(point.prompts, getattr(point, field), strict=True)
    return {name: float(v) for name, v in values if np.isfinite(v)}


def _at(seed: _Seed, method: str, strength: int) -> Point:
    return next(p for p in seed.curves[method] if p.strength == strength)


def _methods_table(seeds: Sequence[_Seed]) -> Table:
    rows: list[tuple[object, ...]] = []
    for method in METHODS:
        if not (having := _having(seeds, method)):
            continue
        shared = _shared_strengths(having, method)
        means = [(n, _interval([_mean(_at(s, method, n).gold) for s in having])) for n in shared]
        top = max(((m.estimate, n) for n, m in means if m), default=None)
        word = "n" if method in BEST_OF_N else "step"
        judged = [s.verdicts[method] for s in having if method in s.verdicts]
        rows.append(
            (
                method,
                len(having),
                f"{word} {shared[-1]}",
                _span(_at_end(having, method, "kl"), "{:.2f}", least=0.0),
                _span(_at_end(having, method, "gold"), "{:+.3f}"),
                _span(_at_end(having, method, "proxy"), "{:+.3f}"),
                f"{top[0]:+.3f} at {word} {top[1]}" if top else "unscored",
                _peak(_fit(having, method)),
                f"{judged.count('overoptimized')} of {len(judged)}" if judged else "",
            )
        )
    columns = (
        "method",
        "seeds",
        "at",
        "KL",
        "gold gain",
        "proxy gain",
        "highest gold gain",
        "peak of the fit, sqrt(KL)",
    )
    return Table((*columns, "runs judged overoptimized"), rows)


def _differences_table(seeds: Sequence[_Seed]) -> Table:
    rows: list[tuple[object, ...]] = []
    for first, second in PAIRS:
        if having := _having(seeds, first, second):
            each = [_at_end(having, first, f, less=second) for f in ("gold", "kl")]
            rows.append((f"{first} - {second}", len(having), _span(each[0], "{:+.3f}"), _span(each[1], "{:+.2f}")))
    return Table(("at the end", "seeds", "gold gain", "KL"), rows)


def _proxies_table(seeds: Sequence[_Seed], pool: Pool) -> Table:
    rows: list[tuple[object, ...]] = []
    for s in seeds:
        mean, low = (accuracy(pool, s.proxy, s.division, how) for how in ("mean", "pessimistic"))
        rows.append((s.seed, len(s.division.train), len(s.division.held_out), mean.pairs, mean.share, low.share))
    return Table(
        ("seed", "training prompts", "held-out prompts", "held-out pairs", "accuracy, mean", "accuracy, pessimistic"),
        rows,
    )


def _points_table(seeds: Sequence[_Seed]) -> Table:
    """One row a seed, method and strength: the figure's data."""
    rows: list[tuple[object, ...]] = []
    for s in seeds:
        for method, points in s.curves.items():
            for p in points:
                means = [v for values in (p.kl, p.gold, p.proxy) for v in (_mean(values), _error(values))]
                rows.append((s.seed, method, p.strength, *means, len(p.prompts), p.unscored))
    columns = ("kl", "kl_se", "gold_gain", "gold_gain_se", "proxy_gain", "proxy_gain_se", "prompts", "unscored")
    return Table(("seed", "method", "strength", *columns), rows)


def _prompts_table(seeds: Sequence[_Seed]) -> Table:
    rows: list[tuple[object, ...]] = [
        (s.seed, method, p.strength, name, float(kl), float(gold), float(proxy))
        for s in seeds
        for method, points in s.curves.items()
        for p in points
        for name, kl, gold, proxy in zip(p.prompts, p.kl, p.gold, p.proxy, strict=True)
    ]
    return Table(("seed", "method", "strength", "prompt_id", "kl", "gold_gain", "proxy_gain"), rows)


def _fit(seeds: Sequence[_Seed], method: str) -> Fit | None:
    """The literature's form on prompts of all seeds; None where the points are too few."""
    shared = _shared_strengths(seeds, method)
    kl, gains = [], []
    for s in seeds:
        points = [_at(s, method, n) for n in shared]
        for name in points[0].prompts:
            row = [(p.kl[i], p.gold[i]) for p in points if name in p.prompts for i in [p.prompts.index(name)]]
            if len(row) == len(points) and np.isfinite(row).all():
                kl.append([k for k, _ in row])
                gains.append([g for _, g in row])
    try:
        return bootstrap_fit("best_of_n" if method in BEST_OF_N else "optimised", kl, gains)
    except UsageError:
        return None


def _peak(fit: Fit | None) -> str:
    if fit is None:
        return "too few points"
    where = fit.peak.distance
    if where is None:
        return f"none up to {fit.reach:.2f}"
    high = f"{where.high:.2f}" if math.isfinite(where.high) else "none"
    return f"{where.estimate:.2f} [{where.low:.2f}, {high}]"


def _shared_strengths(seeds: Sequence[_Seed], method: str) -> list[int]:
    return sorted(set.intersection(*({p.strength for p in s.curves[method]} for s in seeds)))


def _headline(settings: LabSettings, gold: dict[str, Any], pool: Pool, seeds: Sequence[_Seed]) -> list[str]:
    known = gold.get("accuracy")
    whole = [s.seed for s in seeds if all(m in s.curves for m in settings.methods)]
    lines = [
        f"gold: {gold['name']}"
        + (f", accuracy {known:.3f} on its own held-out comparisons" if known is not None else "")
        + f"; {pool.unscored} of {len(pool.rows)} answers of the pool unscored, {pool.set_aside} prompts set aside; "
        f"its standard deviation over the pool is {pool.spread:.3f}",
        f"seeds: {', '.join(str(s.seed) for s in seeds)}, finished {', '.join(map(str, whole)) or 'none'}; "
        "brackets: 95% t intervals over seeds; over prompts where a method has one seed only",
    ]
    unscored = sum(p.unscored for s in seeds for m in POLICIES for p in s.curves.get(m, []))
    lines += [f"{unscored} answers of policies unscored: left out of the means"] if unscored else []
    for first, second in PAIRS[:2]:
        if having := _having(seeds, first, second):
            gap = _at_end(having, first, "gold", less=second)
            lines.append(f"{first} - {second}, gold at the end: {_span(gap, '{:+.3f}')}{_reading(gap)}")
    return lines


def _reading(values: Sequence[float]) -> str:
    """Whether an interval shows a difference."""
    found = _interval(values)
    return "" if found is None or found.low > 0 or found.high < 0 else ": no difference is seen"


def _span(values: Sequence[float], form: str, *, least: float = -math.inf) -> str:
    """The mean with its interval, which ends where no value is possible."""
    found = _interval(values)
    if found is None:
        return "unscored"
    mean = form.format(found.estimate)
    return mean if found.n == 1 else f"{mean} [{form.format(max(found.low, least))}, {form.format(found.high)}]"


def _interval(values: Sequence[float]) -> Interval | None:
    """Over the values that are there; None where there is none."""
    known = [v for v in values if math.isfinite(v)]
    return mean_interval(known) if known else None


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _error(values: Floats) -> float:
    """Standard error over prompts."""
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.nan


def _figure(seeds: Sequence[_Seed]) -> Figure:
    figure, axes = new_figure(10, 4, 2)
    for index, method in enumerate(m for m in METHODS if _having(seeds, m)):
        having = _having(seeds, method)
        shared = _shared_strengths(having, method)
        x = [float(np.sqrt(max(0.0, float(np.mean([_mean(_at(s, method, n).kl) for s in having]))))) for n in shared]
        style: dict[str, Any] = {"color": f"C{index}", "marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.4}
        style["linestyle"] = "--" if method in BEST_OF_N else "-"
        for axis, field in zip(axes, ("gold", "proxy"), strict=True):
            found = [_interval([_mean(getattr(_at(s, method, n), field)) for s in having]) for n in shared]
            y = [f.estimate if f else math.nan for f in found]
            bars = [(f.estimate - f.low, f.high - f.estimate) if f and f.n > 1 else (0.0, 0.0) for f in found]
            axis.errorbar(x, y, yerr=list(zip(*bars, strict=True)), label=method, elinewidth=0.8, **style)
    for axis, label in zip(axes, ("gain of the gold", "gain of what is optimised"), strict=True):
        label += ", 95% interval"
        axis.axhline(0, color="0.5", linewidth=0.8)
        axis.set(xlabel="sqrt(KL to the reference), sqrt(nats)", ylabel=label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure
