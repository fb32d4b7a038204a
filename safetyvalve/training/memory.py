"""Memory of this process and what the machine can still give it."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import psutil
import torch
from torch import nn

from safetyvalve.errors import UsageError

__all__ = [
    "FreedMemory",
    "available_bytes",
    "check_weights_fit",
    "hand_back",
    "peak_resident_bytes",
    "reset_peak",
    "standing_bytes",
    "weight_bytes",
]

GIB = 2**30


def peak_resident_bytes() -> int:
    """Most memory of this process that was ever resident (since :func:`reset_peak`, where the system allows that)."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> bool:
    """Begin to measure the peak anew; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


class FreedMemory:
    """Hands back what steps have freed and the process kept, once it has grown by a tenth.

    Steps differ in their sizes, so that freed blocks leave holes which the next do not fill, and resident memory grows
    for dozens of steps: 24 steps of SmolLM2 came to 9.6 GiB where one step needs 4 to 6. Handing back at every step
    would cost as many page faults as never to keep anything (see :mod:`safetyvalve.cli.allocator`).
    """

    def __init__(self) -> None:
        self.held = False
        """Nothing is handed back while it is set: the next step would meet new memory, and take longer."""
        self._steps, self._level, self._fresh = 0, 0.0, False

    def after_step(self, resident: float) -> bool:
        """Note what is resident after a step, in any unit; whether memory was handed back."""
        self._steps += 1
        if self._steps <= 2 or self._fresh:  # the optimizer's state comes with the first step
            self._level, self._fresh = max(self._level, resident), False
        elif resident > 1.1 * self._level and not self.held:
            self._fresh = hand_back()
        return self._fresh


def hand_back() -> bool:
    """Give freed memory back to the system; whether this C library can."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not the GNU C library
        return False
    trim(0)
    return True


def available_bytes(root: Path = Path("/")) -> int:
    """What this process can have in all: what it has now, and what the machine and its control group can still give.

    Args:
        root: of the file system that says the group's limit.
    """
    free = psutil.virtual_memory().available
    if (left := _left_in_group(root)) is not None:
        free = min(free, left)
    return free + psutil.Process().memory_info().rss


def _left_in_group(root: Path) -> int | None:
    """Bytes that the control group still allows, nested limits included; None without a limit."""
    left: int | None = None
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [p for p in path.split("/") if p]
        # In a container the path is that of the host and its limits are at the mount itself.
        for folder in {base, *(base.joinpath(*parts[:n]) for n in range(1, len(parts) + 1))}:
            limit, used = _read(folder / names[0]).strip(), _read(folder / names[1]).strip()
            if not (limit.isdigit() and used.isdigit()):
                continue
            cache = [row.split()[1] for row in _read(folder / "memory.stat").splitlines() if row.split()[0] == names[2]]
            here = int(limit) - int(used) + sum(map(int, cache))
            left = here if left is None else min(left, here)
    return left


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def standing_bytes(model: nn.Module, *, own_reference: bool = True) -> int:
    """What full training holds between micro-batches: weights, the reference's, gradients and AdamW's two moments.

    Args:
        model: its parameters in the precision they are trained in; those that are frozen have no gradient.
        own_reference: the reference policy is a copy, and not the model with its adapter off.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return weight_bytes(model) * (2 if own_reference else 1) + 3 * trained


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def check_weights_fit(model: nn.Module, *, own_reference: bool = True) -> None:
    """Refuse a model whose weights, reference, gradients and optimizer alone exceed the memory that is left.

    The model itself is loaded. Nothing is said of GPUs, whose own allocator fails cleanly.

    Raises:
        UsageError: it cannot fit.
    """
    if next(model.parameters()).device.type != "cpu" or torch.cuda.is_available():
        return
    needed, available = standing_bytes(model, own_reference=own_reference), available_bytes()
    if needed > available:
        raise UsageError(
            f"training holds at least {needed / GIB:.1f} GiB (weights, reference, gradients, two moments of AdamW), "
            f"and {available / GIB:.1f} GiB can be had on this machine. Take a smaller --model, or a machine with more "
            "memory."
        )
