"""What a decision is proposed from, each file held against the others: of the same models, and what it claims to be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from safetyvalve.errors import ReleaseDamagedError, ReleaseError, UsageError, shorten
from safetyvalve.release import ReleaseRecord, release_record
from safetyvalve.release.kpi_record import Kpis
from safetyvalve.release.roi_record import Roi
from safetyvalve.release.staged.log import read_log
from safetyvalve.report.record import RunRecord, check_names, read_run

__all__ = ["Damage", "Material", "PlanRecord", "read_kpis", "read_material"]

PLAN_FORMAT = "safetyvalve-plan/1"
Record = TypeVar("Record", bound=BaseModel)


class Damage(NamedTuple):
    """A release whose record is not what was written: nothing in it counts."""

    message: str
    approvals: tuple[tuple[str, int], ...]
    """(approver, milliseconds since 1970) of approvals that its log names, where the log itself is whole."""


class PlanRecord(NamedTuple):
    """What is used of ``plan.json`` (docs/plan.md)."""

    sha256: str | None
    judgments: int | None
    """None where the plan had no smallest difference that matters, and shows scenarios."""
    hours: float | None
    people: int | None
    win_rate: float | None
    total: float | None
    currency: str | None
    more_helps: bool | None


@dataclass(frozen=True)
class Material:
    """Everything that a decision report says something from."""

    candidate: str
    runs: tuple[RunRecord, ...]
    """The first is the candidate's; others are compared with it."""
    trainers: tuple[str, ...] = ()
    release: ReleaseRecord | None = None
    damage: Damage | None = None
    kpis: Kpis | None = None
    roi: Roi | None = None
    plan: PlanRecord | None = None
    notices: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Codes of words with their values: what does not fit together, and was used all the same or left out."""


def read_material(
    runs: Sequence[str | Path],
    *,
    candidate: str | None = None,
    release: Path | None = None,
    head: str | None = None,
    kpis: Kpis | None = None,
    roi: Path | None = None,
    plan: Path | None = None,
    trainers: Sequence[str] = (),
) -> Material:
    """Read what there is.

    Args:
        runs: run folders; the first is the candidate's.
        candidate: its name in the release, the verdicts and the key figures; the run's name if None.
        release: folder of ``safetyvalve release``. One whose record does not verify is kept as :class:`Damage`.
        head: of the release's log, kept elsewhere.
        kpis: the key figures, as :func:`read_kpis` gives them.
        roi, plan: ``roi.json`` and ``plan.json``.
        trainers: who trained the candidate, beside those whom run and release name.

    Raises:
        RunError, ReleaseError, UsageError: a file is missing, is not what it claims, or is of other models.
    """
    records = tuple(read_run(run) for run in runs)
    check_names(records)
    name = candidate or records[0].name
    staged, damage = (None, None) if release is None else _release(release, head)
    if staged is not None and staged.settings.candidate != name:
        raise UsageError(
            f"the release '{release}' is of {shorten(staged.settings.candidate)}; the first run is {shorten(name)}. "
            "Name the candidate's run first; if it has another name in the release, give that with --candidate."
        )
    if kpis is not None:
        _same_models("kpi.json", kpis.candidate, kpis.baseline, name, staged, records)
    money = None if roi is None else _record(roi, Roi, "roi.json of `safetyvalve roi --output FOLDER`")
    if money is not None and money.quality is not None:
        _same_models("roi.json", money.quality.candidate, money.quality.baseline, name, staged, records)
    planned = None if plan is None else _plan(plan)
    notices: list[tuple[str, Mapping[str, Any]]] = []
    data = (records[0].data_report or {}).get("sha256")
    if planned is not None and planned.sha256 and data and planned.sha256 != data:
        notices.append(("plan_data", {}))
    if money is not None and money.study.treatment not in (None, name):
        notices.append(("roi_variant", {"variant": money.study.treatment, "candidate": name}))
    return Material(
        name, records, _trainers(records[0], staged, trainers), staged, damage, kpis, money, planned,
        tuple(notices),
    )  # fmt: skip


def read_kpis(file: Path) -> Kpis:
    """``kpi.json``.

    Raises:
        UsageError: it is none.
    """
    return _record(file, Kpis, "kpi.json of `safetyvalve kpi --output FOLDER`")


def _release(folder: Path, head: str | None) -> tuple[ReleaseRecord | None, Damage | None]:
    try:
        return release_record(folder, head=head), None
    except ReleaseDamagedError as error:
        try:
            events = read_log(folder / "log.jsonl")
        except ReleaseError:
            events = []
        named = tuple((str(e.payload.get("approver")), e.at) for e in events if e.kind == "approval")
        return None, Damage(str(error), named)


def _same_models(
    what: str,
    candidate: str | None,
    baseline: str | None,
    name: str,
    staged: ReleaseRecord | None,
    records: Sequence[RunRecord],
) -> None:
    """Refuse figures of another pair of models than the one that is decided about."""
    if candidate is not None and candidate != name:
        raise UsageError(
            f"{what} is of {shorten(candidate)}, and the decision is about {shorten(name)}. Give the one of this "
            "model; if it is this model under another name, give that name with --candidate."
        )
    if baseline is None:
        return
    if staged is not None and baseline != staged.settings.control:
        raise UsageError(
            f"{what} compares with {shorten(baseline)}, and the release with {shorten(staged.settings.control)}. Make "
            "it against the model that is out."
        )
    others = [r.name for r in records[1:]]
    if staged is None and others and baseline not in others:
        raise UsageError(
            f"{what} compares with {shorten(baseline)}, and the other runs are {', '.join(map(shorten, others))}. "
            "Give the one of this pair of runs, or leave the other runs out."
        )


def _text(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"'{file}' cannot be read ({error.strerror}); a {what} is accepted.") from None
    except UnicodeDecodeError:
        raise UsageError(f"'{file}' is not UTF-8; a {what} is accepted.") from None


def _record(file: Path, kind: type[Record], what: str) -> Record:
    try:
        return kind.model_validate_json(_text(file, what))
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        raise UsageError(
            f"'{file}' is not what it should be ({place + ': ' if place else ''}{wrong['msg']}); a {what} is accepted. "
            "Make it again."
        ) from None


def _plan(file: Path) -> PlanRecord:
    what = "plan.json of `safetyvalve plan`"
    try:
        value = json.loads(_text(file, what))
        if value["format"] != PLAN_FORMAT:
            raise ValueError(f"format {shorten(value['format'])}")
        evaluation, costs = value["evaluation"], value["costs"]
        first = evaluation["plans"][0] if evaluation["chosen"] else {}
        return PlanRecord(
            value["data"]["sha256"],
            first.get("judgments"),
            first.get("hours"),
            first.get("people"),
            first.get("win_rate"),
            costs["total"],
            costs["rates"]["currency"],
            value["curve"]["more_helps"],
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(f"'{file}' is not what it should be ({error}); a {what} is accepted.") from None


def _trainers(record: RunRecord, staged: ReleaseRecord | None, given: Sequence[str]) -> tuple[str, ...]:
    recorded = (record.environment or {}).get("trained_by")
    named = [*(staged.settings.trainers if staged else ()), *([str(recorded)] if recorded else []), *given]
    return tuple(dict.fromkeys(named))
