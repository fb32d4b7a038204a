"""Taking observations into a release: each once, none lost, none in the wrong stage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safetyvalve.errors import DataError, ReleaseError
from safetyvalve.hashing import content_hash
from safetyvalve.release.staged.folder import Release, milliseconds
from safetyvalve.release.staged.observations import Observation, Raw, read_observations, stamp
from safetyvalve.release.staged.sources import is_verdict_file, read_samples, read_verdict_rows

__all__ = ["Recorded", "record"]


class Recorded(NamedTuple):
    """What became of a file's rows."""

    added: int
    repeated: int
    """Rows that were recorded before, or twice in the file: left as they are."""
    earlier: int
    """Of those added: of an earlier stage by their time, kept and not counted by this stage's gates."""
    left_out: dict[str, int]
    """Verdicts that are no observation, by the reason."""


def record(
    release: Release,
    source: Path,
    *,
    offset: str | None = None,
    variant: str | None = None,
    stage: str | None = None,
) -> Recorded:
    """Record a file of observations, a file of verdicts, or the samples of a run.

    Args:
        release: opened for writing.
        source: CSV or JSON lines of observations; a verdict file; a run folder, whose last samples' rewards are taken.
        offset: from UTC of times that have none.
        variant: whose samples a run folder holds.
        stage: under which all rows were observed, as a column ``stage`` would say.

    Raises:
        ReleaseError: the release was rolled back.
        DataError: with file and row: what is not accepted. Nothing is recorded then.
    """
    if release.position.rolled_back:
        raise ReleaseError(
            f"the release '{release.settings.name}' was rolled back; it takes no more evidence. Start a new one."
        )
    now = milliseconds()
    left_out: dict[str, int] = {}
    verdicts = False
    if source.is_dir():
        raw = read_samples(source, release.settings, variant, now=now)
    elif verdicts := is_verdict_file(source):
        raw, left_out = read_verdict_rows(source, release.settings, now=now)
    else:
        raw = read_observations(source, release.settings, now=now, offset=offset)
    if variant is not None and not source.is_dir():
        raise DataError("has a variant in each row; --variant goes with a run folder. Leave it out.", file=source)
    if stage is not None:
        raw = [r._replace(stage=stage) for r in raw]
    rows, repeated, later = _new(release, raw, source, first_counts=verdicts)
    if later:
        left_out["later verdicts on a recorded prompt"] = later
    release.fix_settings()
    if rows:
        about = {"source": source.name, "source_hash": _source_hash(source, rows), "repeated": repeated}
        release.add_evidence(rows, about)
    earlier = sum(r.stage != release.stage.name for r in rows)
    return Recorded(len(rows), repeated, earlier, left_out)


def _source_hash(source: Path, rows: Sequence[Observation]) -> str:
    if source.is_file():
        return hashlib.sha256(source.read_bytes()).hexdigest()
    return content_hash([r._asdict() for r in rows])


def _new(release: Release, raw: Sequence[Raw], file: Path, *, first_counts: bool) -> tuple[list[Observation], int, int]:
    """Rows that were not recorded before, how many were, and how many are left out because their unit has a value.

    Args:
        first_counts: a unit with another value keeps the first: a prompt that more people judged since. Otherwise that
            is refused.
    """
    known: dict[tuple[str, ...], tuple[float, int, str]] = {
        o.key: (o.value, o.at, "recorded before") for o in release.observations
    }
    other_arm: dict[tuple[str, str, str], str] = {(o.stage, o.metric, o.unit): o.variant for o in release.observations}
    latest: dict[tuple[str, str, str], int] = {}
    for o in release.observations:
        latest[o.metric, o.variant, o.source] = max(o.at, latest.get((o.metric, o.variant, o.source), 0))
    rows: list[Observation] = []
    repeated = later = 0
    for r in raw:
        observation = Observation(r.at, _stage(release, r, file), r.metric, r.variant, r.unit, r.source, r.value)
        if (before := known.get(observation.key)) is not None:
            if before[:2] == (observation.value, observation.at):
                repeated += 1
            elif first_counts:
                later += 1
            else:
                raise DataError(
                    f"unit {r.unit!r} has {r.value:g} at {stamp(r.at)} for {r.metric} of the {r.variant}, and "
                    f"{before[0]:g} at {stamp(before[1])} ({before[2]}): a duplicate. A unit counts once; "
                    "give one value a unit, such as its mean, when it is complete.",
                    file=file,
                    row=r.row,
                    field="unit",
                )
            continue
        if r.at < (last := latest.get((r.metric, r.variant, r.source), 0)):
            raise DataError(
                f"{stamp(r.at)} is before {stamp(last)}, up to which {r.metric} of the {r.variant} was recorded: the "
                "clock goes backwards. A row's time is when its value became known. Mend it.",
                file=file,
                row=r.row,
                field="time",
            )
        _check_arm(release, observation, other_arm, file, r.row)
        known[observation.key] = (observation.value, observation.at, f"row {r.row}")
        rows.append(observation)
    return rows, repeated, later


def _stage(release: Release, raw: Raw, file: Path) -> str:
    """The stage that a row says, which must be the present one, or the one that its time falls into."""
    names = [s.name for s in release.settings.stages]
    if raw.stage is not None:
        if raw.stage != release.stage.name:
            raise DataError(
                f"is {raw.stage!r}, and the release is in the stage {release.stage.name!r}; "
                f"{'that one' if raw.stage in names else 'only that one'} is accepted. Leave the row out.",
                file=file,
                row=raw.row,
                field="stage",
            )
        return raw.stage
    begins = [release.events[0].at] + [e.at for e in release.of_kind("promotion")]
    if raw.at < begins[0]:
        raise DataError(
            f"{stamp(raw.at)} is before the release began, {stamp(begins[0])}. If it was observed as in the stage "
            f"{release.stage.name!r}, say so in a column 'stage'; else leave it out.",
            file=file,
            row=raw.row,
            field="time",
        )
    return names[max(i for i, begin in enumerate(begins) if raw.at >= begin)]


def _check_arm(
    release: Release, row: Observation, other: dict[tuple[str, str, str], str], file: Path, number: int
) -> None:
    """Between shadow and full, a unit is in one arm: in both, arms would not be independent."""
    guardrail = release.settings.guardrail(row.metric)
    share = next(s.share for s in release.settings.stages if s.name == row.stage)
    if guardrail is None or guardrail.compare == "level" or not 0 < share < 1:
        return
    seen = other.setdefault((row.stage, row.metric, row.unit), row.variant)
    if seen != row.variant:
        raise DataError(
            f"unit {row.unit!r} is in both arms for {row.metric}; at a share of {share:g} each unit has one model. "
            "Give as unit what was split at random, such as the customer, with one value each.",
            file=file,
            row=number,
            field="unit",
        )
