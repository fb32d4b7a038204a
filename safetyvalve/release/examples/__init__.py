"""Tickets that nobody wrote: made by ``make_tickets.py`` from a seed, to try the commands on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from safetyvalve.errors import UsageError

__all__ = ["EXAMPLES", "write_examples"]

EXAMPLES = ("tickets.csv", "tickets_ja.csv")
"""The same tickets with English columns in UTF-8, and with Japanese ones in cp932."""


def write_examples(folder: Path) -> list[Path]:
    """Copy the ticket files into a folder.

    Raises:
        UsageError: it cannot be written.
    """
    written = []
    for name in EXAMPLES:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files(__package__).joinpath(name).read_bytes())
        except OSError as error:
            raise UsageError(f"--example {folder} cannot be written ({error.strerror}); name another folder.") from None
        written.append(folder / name)
    return written
