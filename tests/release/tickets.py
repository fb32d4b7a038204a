"""Ticket files for tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from safetyvalve.release.tickets import Ticket, TicketFile, Tickets

START = datetime(2026, 1, 5, 9)


def write(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


def ticket(number: int, variant: str | None = None, *, day: float = 0, **fields: Any) -> Ticket:
    """A ticket of its own customer, unless said otherwise."""
    known = {
        "solved_at": None, "agent": f"agent-{number % 40}", "customer": f"customer-{number}", "variant": variant,
        "handle_min": None, "edited": None, "edit_min": None, "reopens": None, "complaint": None, "csat": None,
        "harm": None, "file": "tickets.csv", "row": number + 2,
    }  # fmt: skip
    return Ticket(f"T-{number}", START + timedelta(days=day), **(known | fields))


def tickets(rows: list[Ticket]) -> Tickets:
    columns = {name: name for name in Ticket._fields if any(getattr(t, name) is not None for t in rows)}
    file = TicketFile("tickets.csv", "CSV", "UTF-8", "0" * 64, len(rows), columns, ())
    return Tickets(tuple(sorted(rows, key=lambda t: t.created_at)), (file,), 0)
