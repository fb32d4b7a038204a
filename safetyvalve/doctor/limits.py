"""What a container allows of the machine's processors and memory: control groups, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Limits", "read_limits"]

_UNLIMITED = 2**60
"""Version 1 writes a number near 2**63 where there is no limit."""


class Limits(NamedTuple):
    """None where there is no limit."""

    cores: float | None
    """Processor time a second."""
    memory: int | None
    """Bytes."""
    memory_used: int
    """Bytes that count against ``memory`` and cannot be given back; 0 without a limit."""


def read_limits(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Limits:
    """The tightest limits on this process, its group's and those of the groups that hold it.

    Args:
        proc: the process's groups.
        root: where their files are mounted. A container often sees its own group at the root.
    """
    cores: list[float] = []
    memory: list[tuple[int, int]] = []
    for folder in _folders(proc, root):
        quota = _words(folder / "cpu.max")  # version 2: "200000 100000", or "max 100000"
        if not quota:
            quota = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0].isdigit() and int(quota[1]) > 0:
            cores.append(int(quota[0]) / int(quota[1]))
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most = _number(folder / limit)
            if most is not None and most < _UNLIMITED:
                given_back = _statistic(folder / "memory.stat", cache)
                memory.append((most, max(0, (_number(folder / used) or 0) - given_back)))
    tightest = min(memory, key=lambda m: m[0] - m[1], default=(None, 0))
    return Limits(min(cores, default=None), *tightest)


def _folders(proc: Path, root: Path) -> Iterator[Path]:
    """The process's groups, each with those above it."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return
    seen: set[Path] = set()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        base = root
        if controllers:  # version 1: one tree a controller, under one of its names
            base = next((root / n for n in (controllers, *controllers.split(",")) if (root / n).is_dir()), root)
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place not in seen and place.is_relative_to(base):
                seen.add(place)
                yield place


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    words = _words(file)
    return int(words[0]) if words and words[0].isdigit() else None


def _statistic(file: Path, name: str) -> int:
    words = _words(file)
    return int(words[words.index(name) + 1]) if name in words else 0
