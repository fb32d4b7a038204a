"""Rounds to rows of results.json: of each workload the last one, and beside it one of each other kind of machine."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from benchmarks.speed.workloads import Workload
from safetyvalve.errors import UsageError
from safetyvalve.native import kernels
from safetyvalve.processor import this_processor

__all__ = ["Rounds", "about_machine", "code_hash", "merged", "row_of", "rows_of", "same_processor"]

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "transformers", "trl", "accelerate", "numpy")


class Rounds:
    """Figures of every round so far, kept in a file: workload -> side -> list.

    Args:
        file: where they are kept.
        keep: go on with what is there.
        machine: that measures now, as :func:`about_machine` gives it, and the ``code``'s hash.
    """

    def __init__(self, file: Path, *, keep: bool, machine: dict[str, Any]) -> None:
        self.file, self.machine = file, machine
        self.all: dict[str, dict[str, Any]] = json.loads(file.read_text()) if keep and file.exists() else {}

    def of(self, workload: str) -> dict[str, Any]:
        """Its rounds.

        Raises:
            UsageError: they are of another processor, of other versions or of other code, so that a median over old
                and new ones is of neither.
        """
        here = self.all.get(workload, {})
        if here and not _alike(before := here.get("machine", {}), self.machine):
            raise UsageError(
                f"{self.file} has rounds of {workload} from {before}, and here is {self.machine}; rounds of one "
                "processor, with the same versions and code, are accepted. Go on there, or leave out --resume."
            )
        return here

    def drop(self, workload: str) -> None:
        """Forget its rounds, which stand in the record."""
        if self.all.pop(workload, None) is not None:
            self.file.write_text(json.dumps(self.all))

    def add(self, workload: str, side: str, figures: dict[str, float], about: dict[str, Any]) -> None:
        here = self.all.setdefault(workload, {"machine": self.machine})
        here.setdefault(side, []).append(figures)
        here.setdefault("about", {})[side] = about
        self.file.write_text(json.dumps(self.all))


def about_machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    return {
        "hardware": {
            "processor": this_processor().name,
            "generation": this_processor().generation,
            "cores": psutil.cpu_count(logical=False),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "instructions": sorted(this_processor().instructions & {"amx_bf16", "avx512_bf16", "avx512f", "avx2"}),
            "torch_capability": torch.backends.cpu.get_cpu_capability(),
            "kernels": kernels().reason,
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
    }


def code_hash() -> str:
    """Of safetyvalve and of this benchmark."""
    digest = hashlib.sha256()
    for folder in ("safetyvalve", "benchmarks/speed"):
        for file in sorted(f for f in (_ROOT / folder).rglob("*") if f.suffix in (".py", ".c", ".h")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def same_processor(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two figures are of one kind of machine. How much memory it has is not asked; of the generation what both
    tell, since rows of before it was recorded tell nothing, or a family that was filled in later."""
    here, there = one.get("hardware", {}), other["hardware"]
    known = (machine.get("generation", "").split() for machine in (here, there))
    told = all(a == b for a, b in zip(*known, strict=False))  # a family alone is that of all its models
    return told and all(here.get(part) == there[part] for part in ("processor", "cores", "instructions", "kernels"))


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return same_processor(one, other) and all(one.get(part) == other[part] for part in ("versions", "code"))


def row_of(workload: Workload, rounds: dict[str, Any]) -> dict[str, Any]:
    """Medians over rounds with their spread. ``ours`` and ``peer`` are seconds a unit."""
    about = rounds["about"]
    units = about["ours"]["units"]
    ours = [r["seconds"] / units for r in rounds["ours"]]
    peer = [r["seconds"] / units for r in rounds[workload.peer]]
    memory = {
        name: max(r["memory"] for r in rounds[side]) for name, side in (("ours", "ours"), ("peer", workload.peer))
    }
    ratios = [b / a for a, b in zip(ours, peer, strict=True)]
    row = {
        "ratio": median(peer) / median(ours),
        "peak_memory_ratio": memory["ours"] / memory["peer"],
        "ours": median(ours),
        "peer": median(peer),
        "unit": f"seconds a {workload.unit}",
        "units": units,
        "rounds": len(ours),
        "spread": {"ours": [min(ours), max(ours)], "peer": [min(peer), max(peer)], "ratio": [min(ratios), max(ratios)]},
        "peak_memory": memory,
        "threads": about["ours"]["threads"],
        "settings": {"ours": about["ours"]["settings"], "peer": about[workload.peer]["settings"]},
        "data": about["ours"]["data"],
    }
    if "operations" in about["ours"]:
        reached = [about["ours"]["operations"] / r["seconds"] for r in rounds["ours"]]
        peaks = [r["operations_per_second"] for r in rounds["ours"]]
        used = [r / p for r, p in zip(reached, peaks, strict=True)]
        row |= {"gemm_peak": median(peaks), "utilisation": median(used)}
        row["spread"]["utilisation"] = [min(used), max(used)]
    return row


def rows_of(recorded: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A workload's rows, one of each kind of machine that it was measured on, the last one first."""
    return [recorded[name], *recorded.get("elsewhere", {}).get(name, [])] if name in recorded else []


def merged(recorded: dict[str, Any], name: str, row: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """The record with this row and its machine, which need not be the other rows'; above them stands the last one.

    A row of another kind of machine goes to ``elsewhere``, one of the same kind goes.
    """
    others = [before for before in rows_of(recorded, name) if not same_processor(before, machine)]
    elsewhere = {other: rows for other, rows in recorded.get("elsewhere", {}).items() if other != name}
    out = recorded | machine | {name: row | machine, "elsewhere": elsewhere | ({name: others} if others else {})}
    for precision in ("fp32", "bf16"):
        if name == f"hh_pairs_{precision}":
            out[f"utilisation_{precision}"] = row["utilisation"]
    return out
