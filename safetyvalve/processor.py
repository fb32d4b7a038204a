"""What the system says of the processor."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["Processor", "this_processor"]


class Processor(NamedTuple):
    """The first one; all are taken to be alike."""

    name: str
    instructions: frozenset[str]
    """Names of instruction sets as Linux writes them, such as ``avx2``; empty elsewhere."""
    maker: str = ""
    """As the processor says it, such as ``AuthenticAMD``; empty elsewhere."""
    generation: str = ""
    """Its family and model, as x86 counts them: machines that are rented out give several the same name. Empty
    elsewhere."""

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bf16 (x86, and ARM's name of it)."""
        return not self.instructions.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


@cache
def this_processor(info: Path = Path("/proc/cpuinfo")) -> Processor:
    """Of this machine.

    Args:
        info: where Linux tells.
    """
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    named = told.get("model name") or platform.processor() or platform.machine()
    instructions = frozenset(told.get("flags", told.get("Features", "")).split())
    counted = "cpu family" in told and "model" in told
    generation = f"family {told['cpu family']} model {told['model']}" if counted else ""
    return Processor(named, instructions, told.get("vendor_id", ""), generation)
