"""All checks, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetyvalve.doctor import machine, software
from safetyvalve.doctor.finding import Finding
from safetyvalve.doctor.limits import read_limits
from safetyvalve.models import cache_folder

__all__ = ["examine"]


def examine(output: Path) -> Iterator[Finding]:
    """Look at the machine; each finding is given as soon as it is made.

    Args:
        output: where run folders will go.
    """
    limits = read_limits()
    yield from software.python()
    yield from software.packages()
    yield from machine.gpu()
    yield from machine.processor(limits)
    yield from machine.arithmetic()
    yield from machine.compiled()
    yield from machine.memory(limits)
    yield from machine.folders(output, cache_folder())
    yield from software.models()
    yield from software.hub()
    yield from software.extras()
    yield from software.browser()
    yield from software.fonts()
