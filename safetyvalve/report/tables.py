"""Rows of the report's tables: final values, comparisons, settings, environment."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from safetyvalve.report.evidence import Evidence, FinalComparison, final_interval
from safetyvalve.report.record import RunRecord, number
from safetyvalve.report.text import Text, decimals_for, fixed, signed, tidy
from safetyvalve.stats import Interval

__all__ = ["Row", "comparison_rows", "environment_rows", "final_rows", "numbers_rows", "settings_rows"]

_HELD_OUT = (
    "chosen_displacement",
    "chosen_displacement_per_token",
    "rejected_displacement",
    "rejected_displacement_per_token",
    "baseline_displacement",
    "baseline_displacement_per_token",
    "nll_per_token",
    "margin",
    "accuracy",
    "preference_loss",
    "sft_term",
    "preference_grad_norm",
    "sft_grad_norm",
)
_ANSWERS = {"kl": "kl", "length": "tokens", "repetition": "repetition", "eos_rate": "finished"}


class Row(NamedTuple):
    """A heading and one cell a run; ``differs`` where the cells are not all the same."""

    name: str
    cells: tuple[str, ...]
    differs: bool = False


def final_rows(records: Sequence[RunRecord], evidence: Sequence[Evidence], text: Text) -> list[Row]:
    """Every value at the last evaluation, with the interval over prompts where answers give one."""
    none = text("cell.none")

    def row(name: str, cell: Callable[[RunRecord, Evidence], str]) -> Row:
        return Row(text(name), tuple(cell(r, e) for r, e in zip(records, evidence, strict=True)))

    rows = [
        row("row.verdict", lambda r, e: text(f"status.{e.status}")),
        row("row.last_step", lambda r, e: _steps(r, text)),
        row("row.score", lambda r, e: _spanned(final_interval(r, e.steps[-1], "score") if e.steps else None, text)),
        row("row.gain", lambda r, e: _spanned(e.verdict.gain, text, sign=True) if e.verdict else none),
        row("row.fall", lambda r, e: _fall(e, text)),
        row("row.best_step", lambda r, e: str(e.verdict.best_step) if e.verdict else none),
        row("row.reward", lambda r, e: _last(r, "samples/implicit_reward_gain", none)),
    ]
    for metric, field in _ANSWERS.items():
        rows.append(row(f"panel.{metric}", lambda r, e, m=metric, f=field: _answered(r, m, f, text)))  # type: ignore[misc]
    # What no run can have is no row: without comparisons there is no margin, without an SFT term no baseline.
    for metric in (m for m in _HELD_OUT if any(r.series(f"held_out/{m}")[1] for r in records)):
        rows.append(row(f"row.{metric}", lambda r, e, m=metric: _last(r, f"held_out/{m}", none)))  # type: ignore[misc]
    rows.append(row("row.seconds", lambda r, e: _last(r, "seconds", none)))
    rows.append(row("row.memory", lambda r, e: _over(r, "resident_gib", max, none)))
    rows.append(row("row.speed", lambda r, e: _over(r, "tokens_per_second", statistics.median, none)))
    return rows


def comparison_rows(comparison: FinalComparison, text: Text) -> list[Row]:
    """Best run against each other: both means, the difference, its interval, what is seen."""
    rows = []
    for pair in comparison.pairs:
        places = decimals_for(pair.result.difference)
        cells = (
            fixed(comparison.best_mean, places),
            fixed(pair.other_mean, places),
            _spanned(pair.result.difference, text, sign=True),
            text("compared.higher" if pair.result.kind == "first" else "compared.same", best=comparison.best),
        )
        rows.append(Row(text("compared.pair", best=comparison.best, other=pair.other), cells))
    return rows


def settings_rows(records: Sequence[RunRecord]) -> list[Row]:
    """Every key of the runs' configurations, as recorded, in the order of the first run that has it."""
    return _recorded([r.config for r in records])


def environment_rows(records: Sequence[RunRecord]) -> list[Row]:
    """Versions, hardware and hashes; nested mappings as ``outer.inner``."""
    return _recorded([_flat(r.environment or {}) for r in records])


def numbers_rows(records: Sequence[RunRecord], text: Text) -> list[Row]:
    """What the settings mean in practice, as ``settings.json`` has it."""

    def cell(record: RunRecord, key: str) -> str:
        if record.settings is None:
            return text("cell.none")
        value = number(record.settings.get(key))
        if value is None:
            return text("cell.no_parity") if key == "parity_margin" else text("cell.none")
        return tidy(value)

    keys = ("parity_margin", "effective_token_weight", "mean_chosen_length", "mean_baseline_length")
    return [Row(text(f"row.{key}"), tuple(cell(r, key) for r in records)) for key in keys]


def _recorded(mappings: Sequence[Mapping[str, Any]]) -> list[Row]:
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    rows = []
    for key in keys:
        cells = tuple(_shown(mapping[key]) if key in mapping else "—" for mapping in mappings)
        rows.append(Row(key, cells, differs=len(set(cells)) > 1))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _steps(record: RunRecord, text: Text) -> str:
    if record.last_step < 0:
        return text("cell.none")
    if record.planned_steps is None:
        return str(record.last_step)
    return text("cell.of", step=record.last_step, planned=record.planned_steps)


def _spanned(interval: Interval | None, text: Text, *, sign: bool = False) -> str:
    if interval is None:
        return text("cell.none")
    places = decimals_for(interval)
    estimate = signed(interval.estimate, places) if sign else fixed(interval.estimate, places)
    return text("cell.interval", estimate=estimate, span=text.span(interval, places))


def _fall(e: Evidence, text: Text) -> str:
    if e.verdict is None:
        return text("cell.none")
    return text("cell.fall", change=_spanned(e.verdict.fall, text, sign=True), step=e.verdict.fall_from)


def _last(record: RunRecord, metric: str, none: str) -> str:
    _, values = record.series(metric)
    return tidy(values[-1]) if values else none


def _answered(record: RunRecord, metric: str, field: str, text: Text) -> str:
    """From the answers, with an interval; from the recorded mean where the answers are not there."""
    interval = final_interval(record, record.last_step, field)
    return _spanned(interval, text) if interval else _last(record, f"samples/{metric}", text("cell.none"))


def _over(record: RunRecord, metric: str, reduce: Callable[[list[float]], float], none: str) -> str:
    values = [v for line in (*record.train, *record.evaluations) if (v := number(line.get(metric))) is not None]
    return tidy(reduce(values)) if values else none
