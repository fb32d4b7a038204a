"""A release as one record, for reports: state, gates with their numbers, approvals, reasons, and the log's head."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetyvalve.release.staged.approvals import Approval
from safetyvalve.release.staged.decision import Assessment, Outcome, assess
from safetyvalve.release.staged.folder import Release, read_release
from safetyvalve.release.staged.gates import Gate
from safetyvalve.release.staged.log import parse_head
from safetyvalve.release.staged.settings import Settings
from safetyvalve.release.staged.valve import ValveReading

__all__ = ["ReleaseRecord", "plain", "record_of", "release_record"]


@dataclass(frozen=True)
class ReleaseRecord:
    """Everything that a report says about a release, as it stands now."""

    name: str
    state: str
    """``running`` or ``rolled back``."""
    stage: str
    share: float
    stage_began: int
    """Milliseconds since 1970."""
    outcome: Outcome
    reasons: tuple[tuple[str, Mapping[str, Any]], ...]
    gates: tuple[Gate, ...]
    valve: ValveReading
    approvals: tuple[Approval, ...]
    evidence_hash: str
    observations: int
    earlier: int
    """Of them, of other stages than the present one."""
    days: float
    head: str
    """Of the log, ``NUMBER:HASH``: whoever keeps it can tell later whether history was rewritten."""
    exit_code: int
    settings: Settings
    promoted_to: str | None = None


def release_record(folder: str | Path, *, head: str | None = None) -> ReleaseRecord:
    """Read a release and hold it against its log; changes nothing.

    Args:
        folder: of the release.
        head: kept elsewhere, ``NUMBER:HASH``; without one a log rewritten as a whole goes unseen.

    Raises:
        ReleaseError: there is no release.
        ReleaseDamagedError: log, settings or evidence are not what was written.
    """
    release = read_release(Path(folder))
    release.verify(None if head is None else parse_head(head))
    return record_of(release, assess(release))


def record_of(release: Release, found: Assessment) -> ReleaseRecord:
    """The record of a release that was just assessed or decided."""
    stage = release.stage
    return ReleaseRecord(
        name=release.settings.name,
        state=release.position.word,
        stage=stage.name,
        share=release.share,
        stage_began=release.position.since,
        outcome=found.outcome,
        reasons=found.reasons,
        gates=found.gates,
        valve=found.valve,
        approvals=found.approvals,
        evidence_hash=release.evidence_hash(),
        observations=len(release.observations),
        earlier=sum(o.stage != stage.name for o in release.observations),
        days=found.days,
        head=str(release.head),
        exit_code=found.exit_code,
        settings=release.settings,
        promoted_to=found.promoted_to,
    )


def plain(value: Any) -> Any:
    """A record as JSON has it: names, numbers, lists; infinite numbers as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
