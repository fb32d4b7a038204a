"""Tables. Votes, corrections, reports and events are only ever added; see docs/privacy.md for what is kept how long."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Annotator",
    "Assignment",
    "Base",
    "Batch",
    "Correction",
    "Event",
    "Invite",
    "Item",
    "Login",
    "Report",
    "Scan",
    "Setting",
    "Vote",
]


class Base(DeclarativeBase):
    """Times are milliseconds since 1970, as integers: equal on both databases and in the digests."""

    # SQLite numbers rows by itself only where the type is INTEGER; its integers have 64 bits anyway.
    type_annotation_map: ClassVar[dict[Any, Any]] = {int: BigInteger().with_variant(Integer, "sqlite"), Any: JSON}


class Setting(Base):
    """What belongs to the whole database: schema version, secret, guideline."""

    __tablename__ = "setting"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Batch(Base):
    """Items that are judged under the same rules."""

    __tablename__ = "batch"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """Hash of where its items come from: the same sources resume the same batch."""
    name: Mapped[str] = mapped_column(String(200))
    is_open: Mapped[bool] = mapped_column(default=True)
    overlap: Mapped[int]
    """Annotators that judge each item."""
    repeat_share: Mapped[float]
    """Probability that an annotator is shown an item again, sides swapped."""
    gold_every: Mapped[int]
    """One gold item in so many judgments; 0 for none."""
    may_correct: Mapped[bool]
    sources: Mapped[Any]
    """Files or run folders and how their answers are paired."""
    created_at: Mapped[int]


class Scan(Base):
    """A file whose answers joined a batch: counts that make the sample checkable."""

    __tablename__ = "scan"
    __table_args__ = (UniqueConstraint("batch_id", "file"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    file: Mapped[str] = mapped_column(String(500))
    pairs: Mapped[int]
    """Pairs that could have been drawn."""
    equal: Mapped[int]
    """Of these, pairs of equal answers: ties without asking anybody, and never drawn."""
    drawn: Mapped[int]


class Item(Base):
    """A prompt with two answers. ``source_a`` and ``source_b`` never leave the server."""

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("batch_id", "content"),
        Index("ix_item_queue", "kind", "withdrawn", "batch_id", "taken", "position"),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batch.id"))
    kind: Mapped[str] = mapped_column(String(10))
    """``regular``, ``gold`` or ``practice``."""
    lang: Mapped[str | None] = mapped_column(String(8))
    """Of a practice item: shown to those who read that language."""
    content: Mapped[str] = mapped_column(String(64))
    """Hash of prompt, answers and sources."""
    prompt: Mapped[Any]
    answer_a: Mapped[str] = mapped_column(Text)
    answer_b: Mapped[str] = mapped_column(Text)
    source_a: Mapped[Any]
    source_b: Mapped[Any]
    inclusion: Mapped[float]
    """Probability with which it was drawn from its file."""
    expected: Mapped[str | None] = mapped_column(String(10))
    """Of a gold or practice item: the right choice, as in :class:`Vote`."""
    why: Mapped[str | None] = mapped_column(Text)
    position: Mapped[int]
    """Random: the order in which items are given out."""
    taken: Mapped[int] = mapped_column(default=0)
    """Slots in use; equals the number of its assignments with a slot."""
    withdrawn: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int]


class Annotator(Base):
    """A person, known by a random name only."""

    __tablename__ = "annotator"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32), unique=True)
    role: Mapped[str] = mapped_column(String(10))
    is_active: Mapped[bool] = mapped_column(default=True)
    agreed_at: Mapped[int | None]
    """When guideline and notices were accepted."""
    created_at: Mapped[int]


class Invite(Base):
    """A link that signs in once. Only its hash is kept."""

    __tablename__ = "invite"
    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(10))
    annotator_id: Mapped[int | None] = mapped_column(ForeignKey("annotator.id"))
    """Whom it signs in; None makes a new annotator."""
    created_at: Mapped[int]
    expires_at: Mapped[int]
    used_at: Mapped[int | None]
    revoked: Mapped[bool] = mapped_column(default=False)


class Login(Base):
    """A signed-in browser. Only the cookie's hash is kept; no address and no browser name."""

    __tablename__ = "login"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"), index=True)
    expires_at: Mapped[int]


class Assignment(Base):
    """An item in an annotator's hands. A slot in 0 .. overlap-1 is what counts; the database holds it unique."""

    __tablename__ = "assignment"
    __table_args__ = (
        UniqueConstraint("item_id", "annotator_id", "repeat"),
        UniqueConstraint("item_id", "slot"),
        Index("ix_assignment_lease", "state", "leased_until"),
        Index("ix_assignment_annotator", "annotator_id", "kind", "repeat", "state"),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    kind: Mapped[str] = mapped_column(String(10))
    repeat: Mapped[int] = mapped_column(default=0)
    slot: Mapped[int | None]
    """None where the vote does not count towards the overlap: repeats, gold, practice, skipped, late."""
    state: Mapped[str] = mapped_column(String(10))
    """``leased``, ``expired``, ``done``, ``skipped`` or ``late`` (the vote came when the item was already full)."""
    swapped: Mapped[bool]
    """Whether answer b was shown first."""
    to_repeat: Mapped[bool] = mapped_column(default=False)
    nth: Mapped[int | None]
    """How many items the annotator had judged when this one was."""
    leased_until: Mapped[int]
    created_at: Mapped[int]


class Vote(Base):
    """One judgment; the highest revision of an assignment is the one that holds."""

    __tablename__ = "vote"
    __table_args__ = (UniqueConstraint("item_id", "annotator_id", "repeat", "revision"),)
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Made by the client, so that a vote sent twice is stored once."""
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignment.id"), index=True)
    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    repeat: Mapped[int]
    revision: Mapped[int]
    choice: Mapped[str] = mapped_column(String(10))
    """``a``, ``b``, ``tie``, ``both_bad`` or ``skip``."""
    swapped: Mapped[bool]
    strength: Mapped[int | None]
    """1 slightly, 2 clearly, 3 much."""
    tags: Mapped[Any]
    active_ms: Mapped[int | None]
    """Time with the page visible and the annotator not idle; None where no script ran."""
    nonce: Mapped[str] = mapped_column(String(32))
    """Makes the digest in the event log useless for guessing an erased vote."""
    created_at: Mapped[int]


class Correction(Base):
    """An answer as an annotator rewrote it."""

    __tablename__ = "correction"
    __table_args__ = (UniqueConstraint("assignment_id", "answer", "revision"),)
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignment.id"), index=True)
    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    answer: Mapped[str] = mapped_column(String(1))
    """``a`` or ``b``: what was rewritten."""
    revision: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    distance: Mapped[int]
    """Edit distance to the original in graphemes."""
    active_ms: Mapped[int | None]
    nonce: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[int]


class Report(Base):
    """An annotator's word that an item should not be shown."""

    __tablename__ = "report"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignment.id"))
    item_id: Mapped[str] = mapped_column(ForeignKey("item.id"), index=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    reason: Mapped[str] = mapped_column(Text)
    resolved: Mapped[str | None] = mapped_column(String(10))
    """``withdrawn`` or ``kept`` once an administrator has looked."""
    nonce: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[int]


class Event(Base):
    """The log: each row's hash covers the row before it."""

    __tablename__ = "event"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[int]
    actor: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[str] = mapped_column(Text)
    """Canonical JSON, kept as the text that was hashed."""
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
