"""Ticket files of a help desk to records: every row is read or refused with its place, none is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.data.sources import Source, SourceRow, open_source
from safetyvalve.data.sources.text import mixed_rows
from safetyvalve.errors import DataError, UsageError
from safetyvalve.release import tickets_cells as cells
from safetyvalve.release.tickets_checks import check_elapsed, check_months
from safetyvalve.release.tickets_columns import Column, find_columns, is_japanese_header
from safetyvalve.release.tickets_xlsx import is_workbook, open_workbook

__all__ = ["Ticket", "TicketFile", "Tickets", "read_tickets"]

LONGEST_MINUTES = 24 * 60
"""Of work on one ticket; more is a wrong unit far more often than a long day."""


class Ticket(NamedTuple):
    """One ticket. None is what the file does not know, and is counted as unknown wherever it would be used."""

    ticket_id: str
    created_at: datetime
    solved_at: datetime | None
    agent: str | None
    customer: str | None
    variant: str | None
    handle_min: float | None
    """Minutes that somebody worked on it."""
    edited: bool | None
    """Whether a person corrected the answer that was proposed."""
    edit_min: float | None
    """Minutes that the correction took; 0 where nothing was edited."""
    reopens: int | None
    complaint: bool | None
    csat: float | None
    harm: bool | None
    file: str
    row: int

    @property
    def month(self) -> tuple[int, int]:
        return self.created_at.year, self.created_at.month


@dataclass(frozen=True)
class TicketFile:
    """How a file was understood."""

    name: str
    kind: str
    encoding: str | None
    sha256: str
    tickets: int
    columns: dict[str, str]
    """Our name -> the file's."""
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Tickets:
    """Tickets of one or more files, by the time they came in."""

    rows: tuple[Ticket, ...]
    files: tuple[TicketFile, ...]
    outside: int
    """Left out because they came in before ``since`` or from ``until`` on."""

    @property
    def months(self) -> list[tuple[int, int]]:
        return sorted({t.month for t in self.rows})


def read_tickets(
    files: Sequence[str | Path],
    *,
    encoding: str = "auto",
    sheet: str | None = None,
    csat_range: tuple[float, float] = (1, 5),
    since: datetime | None = None,
    until: datetime | None = None,
    longest_minutes: float = LONGEST_MINUTES,
) -> Tickets:
    """Read CSV, TSV, JSON lines, Parquet or xlsx.

    Args:
        files: with the columns of docs/roi.md, under their English or Japanese names.
        encoding: of text files; ``auto`` recognises UTF-8, UTF-16 with a mark, and cp932, and guesses nothing else.
        sheet: of workbooks; the first with rows if not given.
        csat_range: lowest and highest satisfaction that can be given.
        since, until: tickets that came in before, or from then on, are left out and counted.
        longest_minutes: of work on one ticket that is believed.

    Raises:
        DataError: with file and row: a cell that cannot be read, a negative duration, a ticket that stands twice, one
            solved before it was opened, times with and without a zone, a month without tickets, elapsed time in place
            of labour, text of two encodings.
        UsageError: no files.
    """
    if not files:
        raise UsageError("no ticket files were given; at least one is needed. Name one.")
    rows: list[Ticket] = []
    read: list[TicketFile] = []
    for file in files:
        source = _open(Path(file), encoding, sheet)
        mine, columns, ignored = _rows(source, csat_range, longest_minutes)
        if not mine:
            raise DataError("has no tickets; a header and one ticket a row are accepted.", file=file)
        headers = {name: column.header for name, column in columns.items()}
        read.append(TicketFile(source.name, source.kind, source.encoding, source.sha256, len(mine), headers, ignored))
        rows += mine
    _check_twice(rows)
    _check_zones(rows)
    check_elapsed(rows)
    kept = [t for t in rows if _within(t, since, until)]
    if not kept:
        raise DataError(
            f"has no ticket from {since} to {until}, of {len(rows)}; widen --since and --until.", file=files[0]
        )
    kept.sort(key=lambda t: t.created_at)
    check_months(kept)
    return Tickets(tuple(kept), tuple(read), len(rows) - len(kept))


def _open(file: Path, encoding: str, sheet: str | None) -> Source:
    if is_workbook(file):
        return open_workbook(file, sheet)
    if sheet is not None:
        raise UsageError(f"sheet is '{sheet}' and {file} is no workbook; leave it out, or name an xlsx file.")
    if encoding == "auto" and _is_japanese_table(file):
        encoding = "cp932"
    return open_source(file, encoding=encoding)


def _is_japanese_table(file: Path) -> bool:
    """A table mostly of kanji and digits does not prove itself Japanese by its kana; the names of its columns do."""
    try:
        raw = file.read_bytes()
        header = raw.split(b"\n", 1)[0]
        raw.decode("cp932")
        return not header.isascii() and is_japanese_header(header.decode("cp932")) and not mixed_rows(raw)
    except (OSError, UnicodeDecodeError):
        return False


def _rows(
    source: Source, csat_range: tuple[float, float], longest: float
) -> tuple[list[Ticket], dict[str, Column], tuple[str, ...]]:
    columns: dict[str, Column] = {}
    ignored: tuple[str, ...] = ()
    found: list[Ticket] = []
    headers: list[str] | None = None
    for row in source.rows:
        if headers != list(row.fields):  # JSON lines may leave fields out
            headers = list(row.fields)
            mine, unused = find_columns(headers, source.name, row.place.row if columns else 1)
            columns, ignored = columns | mine, tuple(dict.fromkeys(ignored + unused))
        found.append(_ticket(row, mine, csat_range, longest))
    return found, columns, ignored


def _ticket(row: SourceRow, columns: dict[str, Column], csat_range: tuple[float, float], longest: float) -> Ticket:
    file, place = row.place.file, row.place.row

    def refuse(name: str, message: str) -> DataError:
        return DataError(f"{message}.", file=file, row=place, field=columns[name].header)

    def cell(name: str, parse: Any, *further: Any) -> Any:
        if name not in columns:
            return None
        try:
            return parse(row.fields[columns[name].header], *further)
        except ValueError as error:
            raise refuse(name, str(error)) from None

    for needed in ("ticket_id", "created_at"):
        if cell(needed, cells.name) is None:
            raise refuse(needed, "is empty; every ticket has one. Fill it in, or remove the row")
    handle, edit = (
        cell(n, cells.minutes, columns[n].factor) if n in columns else None for n in ("handle_min", "edit_min")
    )
    for name, value in (("handle_min", handle), ("edit_min", edit)):
        if value is not None and value > longest:
            raise refuse(
                name,
                f"is {value:,.0f} minutes of work on one ticket; up to {longest:,.0f} are believed. Seconds? Name the "
                "column with its unit, such as 対応時間(秒) or handle_sec. Elapsed time? It is no labour",
            )
    edited = cell("edited", cells.flag)
    if edited is False and edit:
        raise refuse("edit_min", f"is {edit:g} minutes for a ticket that was not edited. Correct one of the two")
    if "edited" not in columns and edit is not None:
        edited = edit > 0
    csat = cell("csat", cells.number)
    if csat is not None and not csat_range[0] <= csat <= csat_range[1]:
        raise refuse(
            "csat",
            f"is {csat:g}; satisfaction from {csat_range[0]:g} to {csat_range[1]:g} is accepted. Another scale? Say "
            "--csat-range LOW,HIGH",
        )
    ticket = Ticket(
        cell("ticket_id", cells.name),
        cell("created_at", cells.instant),
        cell("solved_at", cells.instant),
        cell("agent", cells.name),
        cell("customer", cells.name),
        cell("variant", cells.name),
        handle,
        edited,
        0.0 if edited is False else edit,
        cell("reopens", cells.count),
        cell("complaint", cells.flag),
        csat,
        cell("harm", cells.flag),
        file,
        place,
    )
    _check_order(ticket, columns)
    return ticket


def _check_order(ticket: Ticket, columns: dict[str, Column]) -> None:
    made, solved = ticket.created_at, ticket.solved_at
    if solved is None:
        return
    if (made.tzinfo is None) != (solved.tzinfo is None):
        raise _zones(ticket)
    if solved < made:
        raise DataError(
            f"is {solved.isoformat(sep=' ')}, before the ticket came in at {made.isoformat(sep=' ')}: a clock went "
            "backwards, or two clocks differ. Correct the time, or leave the cell empty.",
            file=ticket.file,
            row=ticket.row,
            field=columns["solved_at"].header,
        )


def _check_twice(rows: Iterable[Ticket]) -> None:
    seen: dict[str, Ticket] = {}
    for ticket in rows:
        if (first := seen.setdefault(ticket.ticket_id, ticket)) is not ticket:
            raise DataError(
                f"ticket '{ticket.ticket_id}' stands here again, first in {first.file}:{first.row}; one row a ticket "
                "is "
                "accepted. Remove one, or export the last state of each ticket only.",
                file=ticket.file,
                row=ticket.row,
            )


def _check_zones(rows: Sequence[Ticket]) -> None:
    for ticket in rows:
        if (ticket.created_at.tzinfo is None) != (rows[0].created_at.tzinfo is None):
            raise _zones(ticket)


def _zones(ticket: Ticket) -> DataError:
    return DataError(
        f"has the time {ticket.created_at.isoformat(sep=' ')}, and others are "
        f"{'with' if ticket.created_at.tzinfo is None else 'without'} a zone: they cannot be put in order. Export "
        "all times with a zone, or all without.",
        file=ticket.file,
        row=ticket.row,
    )


def _within(ticket: Ticket, since: datetime | None, until: datetime | None) -> bool:
    made = ticket.created_at.replace(tzinfo=None)
    return (since is None or made >= since) and (until is None or made < until)
