"""Batches and how they are filled: a random sample of the pairs of each file, with the probability kept."""

from __future__ import annotations

import hmac
import json
import random
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from safetyvalve.annotate.events import append, append_row, milliseconds
from safetyvalve.annotate.models import Batch, Item, Scan, Setting
from safetyvalve.annotate.practice import PRACTICE
from safetyvalve.annotate.sources import Pair, Source, read_pairs
from safetyvalve.annotate.text import GUIDELINES
from safetyvalve.errors import DataError, UsageError
from safetyvalve.hashing import digest

__all__ = [
    "Rules",
    "add_items",
    "add_practice",
    "change_rules",
    "drawn",
    "fill",
    "fill_from_upload",
    "guideline",
    "names_in",
    "open_batch",
    "set_setting",
    "source_of",
]


class Rules(NamedTuple):
    """How a batch is judged; see :class:`safetyvalve.annotate.models.Batch`."""

    overlap: int = 1
    repeat_share: float = 0.05
    gold_every: int = 10
    may_correct: bool = True

    def checked(self) -> Rules:
        """Itself.

        Raises:
            UsageError: a value outside its range.
        """
        if not 1 <= self.overlap <= 100:
            raise UsageError(f"overlap is {self.overlap}; 1 to 100 annotators an item are accepted.")
        if not 0 <= self.repeat_share <= 1:
            raise UsageError(f"repeats is {self.repeat_share}; a share between 0 and 1 is accepted, such as 0.05.")
        if not 0 <= self.gold_every <= 10_000:
            raise UsageError(f"gold-every is {self.gold_every}; 0 (none) to 10000 is accepted.")
        return self


def drawn(secret: bytes, *parts: object) -> float:
    """A number in [0, 1) that only who holds the secret can foretell; the same for the same parts."""
    message = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hmac.digest(secret, message, "sha256")[:7]) / 2**56


def open_batch(
    session: Session, source: Source, rules: Rules, *, name: str | None = None, actor: str = "server"
) -> Batch:
    """The batch of a source, made if there is none. An old one keeps its rules: they change on the admin page."""
    rules = rules.checked()
    sources = {"paths": [str(p) for p in source.paths], "pairing": source.pairing}
    key = digest(sources)
    batch = session.scalars(select(Batch).where(Batch.key == key)).first()
    if batch is None:
        title = name or " + ".join(p.stem if p.is_file() else p.name for p in source.paths)
        batch = Batch(key=key, name=title[:200], sources=sources, created_at=milliseconds(), **rules._asdict())
        session.add(batch)
        session.flush()
        append(session, "batch", actor, {"id": batch.id, **sources, **rules._asdict()}, at=batch.created_at)
    return batch


def change_rules(session: Session, batch: Batch, rules: Rules, *, is_open: bool, actor: str) -> None:
    """Change how a batch is judged.

    Raises:
        UsageError: a value outside its range, or an overlap below what an item has already.
    """
    rules = rules.checked()
    most = session.scalar(select(Item.taken).where(Item.batch_id == batch.id).order_by(Item.taken.desc()).limit(1))
    if rules.overlap < (most or 0):
        raise UsageError(f"overlap is {rules.overlap}; items are with {most} annotators already, so {most} or more.")
    for field, value in rules._asdict().items():
        setattr(batch, field, value)
    batch.is_open = is_open
    append(session, "rules", actor, {"id": batch.id, "open": is_open, **rules._asdict()}, at=milliseconds())


def fill(session: Session, batch: Batch, source: Source, secret: bytes, *, per_file: int | None) -> int:
    """Add the pairs of files that the batch has not seen; returns how many were added.

    Args:
        per_file: most pairs drawn from one file of samples, at random; None for all.

    Raises:
        DataError: a line that is not of the form.
    """
    known = set(session.scalars(select(Scan.file).where(Scan.batch_id == batch.id)))
    added = 0
    for file, pairs in read_pairs(source, known):
        different = [p for p in pairs if p.a.text.strip() != p.b.text.strip()]
        generator = random.Random(f"{secret.hex()} {batch.key} {file}")
        different.sort(key=lambda p: digest([p.prompt, p.a, p.b]))
        count = len(different) if per_file is None else min(per_file, len(different))
        chosen = generator.sample(different, count)
        inclusion = count / len(different) if different else 1.0
        n = add_items(session, chosen, batch=batch, inclusion=inclusion, generator=generator)
        _remember_names(session, [*source.names, *(str(x.source["run"]) for p in pairs for x in (p.a, p.b))])
        session.add(Scan(batch_id=batch.id, file=file, pairs=len(pairs), equal=len(pairs) - len(different), drawn=n))
        added += n
    return added


def fill_from_upload(session: Session, source: Source, name: str, secret: bytes, *, actor: str) -> int:
    """A batch from a file that is not kept; returns how many items were added.

    Raises:
        DataError: a line that is not of the form.
    """
    file = source.paths[0]
    try:
        batch = open_batch(session, source._replace(paths=(Path(file.name),)), Rules(), name=name, actor=actor)
        added = fill(session, batch, source, secret, per_file=None)
    except DataError as error:
        raise DataError(str(error).replace(str(file), name)) from None
    batch.sources = {"paths": [], "pairing": source.pairing}  # nothing to look at again
    return added


def add_items(
    session: Session,
    pairs: Sequence[Pair],
    *,
    batch: Batch | None,
    generator: random.Random,
    inclusion: float = 1.0,
    kind: str = "regular",
    lang: str | None = None,
    actor: str = "server",
) -> int:
    """Store pairs as items, once each; returns how many were new. A pair with an expected choice becomes gold.

    Raises:
        DataError: an item of kind gold or practice without an expected choice.
    """
    added = 0
    for pair in pairs:
        content = digest([pair.prompt, pair.a, pair.b])
        batch_id = batch.id if batch else None
        there = select(Item.id).where(Item.content == content)
        if session.scalar(there.where(Item.batch_id == batch_id)) is not None:
            continue
        if kind != "regular" and pair.expected is None:
            raise DataError(f"{kind} items need an expected choice: a, b, tie or both_bad.", field="expected")
        item = Item(
            id=uuid.UUID(int=generator.getrandbits(128)).hex,
            batch_id=batch_id,
            kind="gold" if kind == "regular" and pair.expected else kind,
            lang=lang,
            content=content,
            prompt=pair.prompt,
            answer_a=pair.a.text,
            answer_b=pair.b.text,
            source_a=pair.a.source,
            source_b=pair.b.source,
            inclusion=inclusion,
            expected=pair.expected,
            why=pair.why,
            # Practice is a course: it keeps its order, also where all of it is stored within one millisecond.
            position=added if kind == "practice" else generator.getrandbits(48),
            created_at=milliseconds(),
        )
        append_row(session, "item", actor, item)
        added += 1
    return added


def names_in(session: Session) -> list[str]:
    """Names of the runs and models whose answers came in."""
    found: list[str] = json.loads(_setting(session, "names") or "[]")
    return found


def _remember_names(session: Session, names: Iterable[str]) -> None:
    known = set(names_in(session))
    if new := set(names) - known:
        set_setting(session, "names", json.dumps(sorted(known | new), ensure_ascii=False))


def guideline(session: Session, lang: str) -> str:
    """Markdown, as an administrator wrote it or as it comes."""
    return _setting(session, f"guideline.{lang}") or GUIDELINES[lang]


def set_setting(session: Session, key: str, value: str) -> None:
    session.merge(Setting(key=key, value=value))
    session.flush()


def _setting(session: Session, key: str) -> str | None:
    return session.scalar(select(Setting.value).where(Setting.key == key))


def add_practice(session: Session) -> None:
    """The practice items that come with the app, once."""
    if session.scalar(select(Item.id).where(Item.kind == "practice").limit(1)) is None:
        for lang, pairs in PRACTICE.items():
            generator = random.SystemRandom()
            add_items(session, pairs, batch=None, generator=generator, kind="practice", lang=lang)


def source_of(batch: Batch) -> Source:
    """The source a batch was opened with."""
    return Source(tuple(Path(p) for p in batch.sources["paths"]), batch.sources["pairing"])
