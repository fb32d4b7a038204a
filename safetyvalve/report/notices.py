"""What a reader must know before believing the rest: what is missing, cut short, or not like with like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safetyvalve.report.evidence import Evidence
from safetyvalve.report.finding import Finding
from safetyvalve.report.record import RunRecord, number
from safetyvalve.report.text import Text, fixed

__all__ = ["notices"]

_COMPARED = (
    "model",
    "data",
    "held_out",
    "split_seed",
    "seed",
    "steps",
    "prompts_per_step",
    "learning_rate",
    "schedule",
    "sample_prompts",
    "samples_per_prompt",
    "max_new_tokens",
    "scorer",
)
"""Settings that a comparison of objectives holds equal."""


def notices(records: Sequence[RunRecord], finding: Finding, text: Text) -> list[str]:
    """One sentence or two for each thing, run by run, then across runs."""
    found = [line for r, e in zip(records, finding.evidence, strict=True) for line in _of_run(r, e, text)]
    shared = finding.comparison.n_prompts if finding.comparison else 0
    if shared and any(len(e.final) > shared for e in finding.evidence):
        found.append(text("notice.shared", count=shared))
    differing = [key for key in _COMPARED if len({str(r.config.get(key)) for r in records}) > 1]
    if differing:
        found.append(text("notice.differ", keys=text.join(differing)))
    return found


def _of_run(record: RunRecord, evidence: Evidence, text: Text) -> Iterator[str]:
    if record.missing:
        yield text("notice.missing", run=record.name, files=text.join(record.missing))
    if record.cut:
        yield text("notice.cut", run=record.name, files=text.join(record.cut))
    if not record.evaluations:
        yield text("notice.no_evaluation", run=record.name)
    elif record.stopped is not None:
        yield text(
            "notice.stopped",
            run=record.name,
            step=record.last_step,
            planned=record.planned_steps,
            reason=record.stopped.get("reason"),
        )
    elif record.planned_steps is not None and record.last_step < record.planned_steps:
        yield text("notice.interrupted", run=record.name, step=record.last_step, planned=record.planned_steps)
    if record.selection is not None:
        yield _selected(record.name, record.selection, text)
    if evidence.steps and evidence.steps[-1] != record.last_step:
        yield text("notice.answers_behind", run=record.name, step=record.last_step, scored=evidence.steps[-1])
    unscored = sum(a.score is None for rows in record.samples.values() for a in rows)
    if evidence.status != "unscored" and unscored:
        yield text("notice.unscored_answers", run=record.name, count=unscored)


def _selected(run: str, selection: Mapping[str, Any], text: Text) -> str:
    by, fresh = number(selection.get("selected_by")), number(selection.get("fresh_score"))
    error = number(selection.get("fresh_score_se"))
    return text(
        "notice.selected.other" if selection.get("other_prompts") else "notice.selected.same",
        run=run,
        step=selection.get("step"),
        selected=text("cell.none") if by is None else fixed(by, 2),
        fresh=text("cell.none") if fresh is None else fixed(fresh, 2),
        error=text("cell.none") if error is None else fixed(error, 2),
        count=selection.get("fresh_prompts"),
    )
