"""Processor, memory, disk and GPU, within the limits of a container."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from safetyvalve.doctor.finding import Finding
from safetyvalve.doctor.limits import Limits
from safetyvalve.native import kernels
from safetyvalve.precision import settled
from safetyvalve.processor import this_processor

__all__ = ["arithmetic", "compiled", "folders", "gpu", "memory", "processor"]

_GIB = 2**30
_SMOLLM2 = 134_515_008
"""Parameters of the model that the defaults train."""
_SMOLLM2_GIB = 7
"""Resident at most in its training, as measured with the default settings on dialogues of hh-harmless."""
_TRAINING_BYTES = 20
"""A parameter in full fine-tuning, all fp32: weight, gradient, AdamW's two moments, the reference's weight."""
_CHECKPOINT_BYTES = 12
"""A parameter in a checkpoint: weight and AdamW's two moments."""


def processor(limits: Limits) -> Iterator[Finding]:
    """Cores this process may use, and torch's threads."""
    allowed = len(os.sched_getaffinity(0))
    usable = allowed if limits.cores is None else min(allowed, limits.cores)
    quota = "" if limits.cores is None else f", limited to {limits.cores:g} by the container"
    threads = torch.get_num_threads()
    found = f"{allowed} cores{quota}; torch computes with {threads} threads"
    wanted = max(1, min(math.floor(usable), psutil.cpu_count(logical=False) or allowed))
    if threads > max(1, math.ceil(usable)):
        yield Finding(
            "processor", "note", found, f"Threads without a core wait for each other: set OMP_NUM_THREADS={wanted}."
        )
    elif threads < wanted:
        yield Finding("processor", "note", found, f"Cores stay idle: unset OMP_NUM_THREADS, or set it to {wanted}.")
    else:
        yield Finding("processor", "ok", found)


def arithmetic() -> Iterator[Finding]:
    """Which precision is the faster one here, measured on a product of two matrices."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates = {name: _rate(dtype, device) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    where = "GPU"
    if device.type == "cpu":
        known = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in this_processor().instructions]
        where = f"{torch.backends.cpu.get_cpu_capability()}, {' and '.join(known) or 'no bf16 instructions'}"
    measured = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
    faster, taken = max(rates, key=rates.__getitem__), settled("auto")
    if rates[faster] <= 1.1 * rates[taken]:  # nearer than two measurements of one of them
        yield Finding("arithmetic", "ok", f"{where}; {measured}: --precision auto, the default, takes {taken}")
    else:
        yield Finding(
            "arithmetic",
            "note",
            f"{where}; {measured}: --precision auto, the default, takes {taken}, which is not the faster one here",
            f"Train with --precision {faster}.",
        )


def compiled() -> Iterator[Finding]:
    """Whether training can use its own kernels; builds them where it has not been done yet."""
    found = kernels()
    if found.library is not None:
        yield Finding("kernels", "ok", found.reason)
    elif torch.cuda.is_available():
        yield Finding("kernels", "ok", f"{found.reason}; on a GPU they are not used")
    else:
        remedy = "Training on the processor is slower without them. Install a C compiler, such as Debian's gcc."
        yield Finding("kernels", "note", found.reason, remedy)


def _rate(dtype: torch.dtype, device: torch.device, *, size: int = 1024, seconds: float = 0.3) -> float:
    """GFLOP/s of the best of the products that fit into ``seconds``, the first one left out."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = math.inf, math.inf
    while time.perf_counter() < end or best == math.inf:
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        if end == math.inf:
            end = time.perf_counter() + seconds
        else:
            best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def memory(limits: Limits) -> Iterator[Finding]:
    """What is free, and a bound on the model that it holds."""
    system = psutil.virtual_memory()
    total, free = system.total, system.available
    if limits.memory is not None:
        total, free = min(total, limits.memory), min(free, limits.memory - limits.memory_used)
    limited = ", the container's limit" if total < system.total else ""
    held = free / _TRAINING_BYTES
    found = (
        f"{free / _GIB:.1f} GiB free of {total / _GIB:.1f}{limited}; full fine-tuning takes {_TRAINING_BYTES} bytes a "
        f"parameter and the activations on top, so it holds less than {held / 1e6:.0f} million parameters"
    )
    if held < _SMOLLM2:
        remedy = "Even smollm2-135m does not fit: end other programs or raise the limit."
        yield Finding("memory", "problem", found, remedy)
    elif free < _SMOLLM2_GIB * _GIB:
        remedy = f"smollm2-135m took {_SMOLLM2_GIB} GiB with the defaults; a smaller --token-budget takes less."
        yield Finding("memory", "note", found, remedy)
    else:
        yield Finding("memory", "ok", found)


def folders(output: Path, cache: Path) -> Iterator[Finding]:
    """Free disk and the right to write, where runs and where the cache go."""
    needed = 2 * _CHECKPOINT_BYTES * _SMOLLM2 + 4 * _SMOLLM2  # the next checkpoint is written before the last one goes
    for name, folder, remedy in (
        ("output", output, "Name another folder with --output."),
        ("cache", cache, "Set SAFETYVALVE_CACHE to a folder that can be written."),
    ):
        place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                free = shutil.disk_usage(place).free
        except OSError as error:
            yield Finding(name, "problem", f"{folder} cannot be written ({error.strerror})", remedy)
            continue
        found = f"{folder}: {free / _GIB:.1f} GiB free"
        if free < needed:
            room = f"a run of smollm2-135m with its checkpoints takes {needed / _GIB:.1f} GiB"
            yield Finding(name, "note", f"{found}; {room}", f"Free some, or name another folder. {remedy}")
        else:
            yield Finding(name, "ok", found)


def gpu() -> Iterator[Finding]:
    """Whether there is one that torch can use."""
    build = f"torch {torch.__version__}"
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            yield Finding(
                "gpu",
                "note",
                f"an NVIDIA driver is installed, but {build} cannot use it",
                "Install a torch built for it: https://pytorch.org/get-started/locally",
            )
        else:
            yield Finding("gpu", "ok", f"none; {build} trains on the processor, which suits small models")
        return
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found = f"{', '.join(f'{c.name} ({c.total_memory / _GIB:.0f} GiB)' for c in cards)}; {build}"
    if len(cards) > 1:
        yield Finding("gpu", "note", found, "Training uses one: set CUDA_VISIBLE_DEVICES=0.")
    else:
        yield Finding("gpu", "ok", found)
