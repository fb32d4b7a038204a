"""A person's approval: who, why, of which evidence, until when; signed where keys are configured.

Without signers an approval is what its record says and no more: somebody with access to the folder stated a name. It is
called a recorded approval then, and not a signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetyvalve.errors import ReleaseError, UsageError
from safetyvalve.hashing import canonical
from safetyvalve.release.staged.folder import Release, milliseconds
from safetyvalve.release.staged.log import Event
from safetyvalve.release.staged.settings import same_person, signer_name
from safetyvalve.release.staged.signing import sign, signed_by

__all__ = ["Approval", "add_approval", "approvals", "check_evidence", "refuse_trainer"]

Problem = Literal["expired", "evidence_changed", "other_stage", "by_trainer", "not_signed", "bad_signature"]
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Approval:
    """One approval and whether it counts now."""

    approver: str
    reason: str
    stage: str
    to_stage: str
    at: int
    expires: int
    """Milliseconds since 1970."""
    evidence_hash: str
    account: str
    """Under which the command ran."""
    signed: bool
    """By an OpenSSH key that the settings name for the approver; checked."""
    problem: Problem | None
    """Why it does not count; None if it does."""
    seq: int
    """Of its event."""

    @property
    def form(self) -> str:
        return "signed approval" if self.signed else "recorded approval"


def approvals(release: Release, *, now: int | None = None) -> list[Approval]:
    """All approvals, oldest first, each with why it does not count."""
    now = milliseconds() if now is None else now
    return [_judged(release, event, now) for event in release.of_kind("approval")]


def _judged(release: Release, event: Event, now: int) -> Approval:
    p = event.payload
    signed = _is_signed(release, p)
    problem: Problem | None = None
    if p["stage"] != release.stage.name or event.seq < release.position.seq or release.position.rolled_back:
        problem = "other_stage"
    elif any(same_person(p["approver"], t) for t in release.settings.trainers):
        problem = "by_trainer"
    elif p["evidence_hash"] != release.evidence_hash():
        problem = "evidence_changed"
    elif p["expires"] <= now:
        problem = "expired"
    elif release.settings.approval.signers and not signed:
        problem = "bad_signature" if p["signature"] else "not_signed"
    return Approval(
        p["approver"], p["reason"], p["stage"], p["to_stage"], event.at, p["expires"], p["evidence_hash"], event.by,
        signed, problem, event.seq,
    )  # fmt: skip


def _is_signed(release: Release, payload: Any) -> bool:
    signers = release.settings.approval.signers
    if not signers or not payload["signature"]:
        return False
    return signed_by(_message(payload), payload["signature"], payload["approver"], signers)


def _message(payload: Any) -> str:
    """What is signed: everything that the approval says."""
    return canonical({key: value for key, value in payload.items() if key != "signature"})


def refuse_trainer(release: Release, approver: str) -> None:
    """Raises:
    ReleaseError: the approver trained the candidate.
    """
    for trainer in release.settings.trainers:
        if same_person(approver, trainer):
            raise ReleaseError(
                f"the approver '{approver}' trained the candidate (trainers: {', '.join(release.settings.trainers)}); "
                "somebody else has to approve. Nothing was changed."
            )


def check_evidence(release: Release, seen: str | None) -> str:
    """The hash of the evidence; where the approver names the one that they saw, they must be the same.

    Raises:
        ReleaseError: they are not.
    """
    found = release.evidence_hash()
    if seen is not None and not (len(seen) >= 12 and found.startswith(seen.lower())):
        raise ReleaseError(
            f"--evidence is '{seen}', and the evidence is now {found}: it is not what was looked at. Look at "
            "`safetyvalve release status` again (12 digits or more are accepted)."
        )
    return found


def add_approval(
    release: Release,
    approver: str,
    reason: str,
    *,
    days: float | None = None,
    seen: str | None = None,
    key: Path | None = None,
) -> Approval:
    """Record a person's approval of going on from the present stage, on the present evidence.

    Args:
        release: opened for writing.
        approver: name.
        reason: in their words.
        days: until it expires; the most that the settings allow if not given.
        seen: hash of the evidence that the approver looked at.
        key: private OpenSSH key, where the settings name signers.

    Raises:
        ReleaseError: by the trainer, of other evidence, without a key where one is needed, or after a rollback.
        UsageError: no name, no reason, or more days than allowed.
    """
    rules = release.settings.approval
    approver, reason = " ".join(approver.split()), reason.strip()
    days = rules.valid_days if days is None else days
    if not approver or len(reason) < 10:
        raise UsageError(
            f"the approver is '{approver}' and the reason '{reason}'; a name and a reason of ten characters or "
            "more are accepted: what was looked at, and why it is enough."
        )
    if not 0 < days <= rules.valid_days:
        raise UsageError(f"--days is {days:g}; above 0 and at most {rules.valid_days:g}, as release.yaml says.")
    refuse_trainer(release, approver)
    if release.position.number + 1 >= len(release.settings.stages):
        raise ReleaseError(f"'{release.stage.name}' is the last stage; there is nothing more to approve.")
    names = [signer_name(line) for line in rules.signers]
    if names and (approver not in names or key is None):
        raise ReleaseError(
            f"approvals of this release are signed by one of {', '.join(names)}; got '{approver}' "
            f"{'without --key' if key is None else 'with a key'}. Give --approver as written there, and --key."
        )
    if key is not None and not names:
        raise ReleaseError("release.yaml names no signers, so nobody could check a signature. Leave --key out.")
    payload: dict[str, Any] = {
        "approver": approver,
        "reason": reason,
        "release": release.settings.name,
        "stage": release.stage.name,
        "to_stage": release.settings.stages[release.position.number + 1].name,
        "evidence_hash": check_evidence(release, seen),
        "expires": milliseconds() + round(days * DAY_MS),
    }
    payload["signature"] = None if key is None else sign(_message(payload), key)
    if payload["signature"] and not signed_by(_message(payload), payload["signature"], approver, rules.signers):
        raise ReleaseError(f"--key '{key}' is not the key that release.yaml has for '{approver}'. Nothing was changed.")
    return _judged(release, release.append("approval", payload), milliseconds())
