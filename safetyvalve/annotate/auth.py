"""Who is asking: invite links that work once, cookies, roles. No password, no address, no name of a person."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from safetyvalve.annotate.events import append
from safetyvalve.annotate.models import Annotator, Invite, Login
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.errors import UsageError

__all__ = [
    "LOGIN_MS",
    "ROLES",
    "Visitor",
    "accept",
    "csrf_token",
    "find_invite",
    "invite",
    "look_up",
    "same_token",
    "sign_out",
]

ROLES = ("annotator", "reviewer", "admin")
"""An annotator judges and sees no model. A reviewer sees results, an admin also changes things; neither may judge."""

LOGIN_MS = 14 * 24 * 3600 * 1000
_DAY_MS = 24 * 3600 * 1000


class Visitor(NamedTuple):
    """A signed-in annotator and the token of the browser's session."""

    annotator: Annotator
    token: str


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def invite(
    session: Session, role: str, *, actor: str, now: int, days: float = 7, annotator: Annotator | None = None
) -> str:
    """A new invite's token, which is not stored and cannot be shown again.

    Args:
        annotator: whom it signs in again, after a lost cookie; None for somebody new.

    Raises:
        UsageError: no such role, or a time outside a minute to a year.
    """
    if role not in ROLES:
        raise UsageError(f"role is '{role}'; accepted: {', '.join(ROLES)}.")
    if not 1 / 1440 <= days <= 366:
        raise UsageError(f"days is {days}; a minute to 366 days is accepted.")
    token = secrets.token_urlsafe(24)
    row = Invite(
        token_hash=_hash(token),
        role=role,
        annotator_id=annotator.id if annotator else None,
        created_at=now,
        expires_at=now + int(days * _DAY_MS),
    )
    session.add(row)
    session.flush()
    append(session, "invite", actor, {"id": row.id, "role": role, "for": annotator.name if annotator else None}, at=now)
    return token


def find_invite(session: Session, token: str, now: int) -> Invite:
    """The invite of a token.

    Raises:
        Refusal: 410 where it is unknown, used, revoked or expired; the answer is the same for all four.
    """
    row = session.scalars(select(Invite).where(Invite.token_hash == _hash(token))).first()
    if row is None or row.used_at is not None or row.revoked or row.expires_at <= now:
        raise Refusal(410, "invite")
    return row


def accept(session: Session, token: str, now: int) -> Visitor:
    """Use an invite up and sign its owner in.

    Raises:
        Refusal: as :func:`find_invite`.
    """
    row = find_invite(session, token, now)
    row.used_at = now
    if row.annotator_id is None:
        annotator = Annotator(name=f"{row.role}-{secrets.token_hex(4)}", role=row.role, created_at=now)
        session.add(annotator)
        session.flush()
        row.annotator_id = annotator.id
    else:
        annotator = session.get_one(Annotator, row.annotator_id)
        if not annotator.is_active:
            raise Refusal(410, "invite")
    session.execute(delete(Login).where(Login.expires_at <= now))
    cookie = secrets.token_urlsafe(32)
    session.add(Login(token_hash=_hash(cookie), annotator_id=annotator.id, expires_at=now + LOGIN_MS))
    append(session, "sign-in", annotator.name, {"invite": row.id}, at=now)
    return Visitor(annotator, cookie)


_HOLDER = (  # made once: every request asks
    select(Annotator)
    .join(Login, Login.annotator_id == Annotator.id)
    .where(Login.token_hash == bindparam("hash"), Login.expires_at > bindparam("now"), Annotator.is_active)
)


def look_up(session: Session, cookie: str | None, now: int) -> Visitor | None:
    """Who holds the cookie."""
    if not cookie:
        return None
    found = session.scalars(_HOLDER, {"hash": _hash(cookie), "now": now}).first()
    return Visitor(found, cookie) if found else None


def sign_out(session: Session, cookie: str) -> None:
    session.execute(delete(Login).where(Login.token_hash == _hash(cookie)))


def csrf_token(secret: bytes, cookie: str) -> str:
    """What a form of this session carries: another site can neither read nor make it."""
    return hmac.new(secret, b"csrf\x1f" + cookie.encode(), "sha256").hexdigest()


def same_token(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
