"""Compiles the kernels for this processor, once, and loads them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch  # noqa: F401  # before the kernels: they then share its OpenMP threads

from safetyvalve.folders import cache_folder

__all__ = ["SWITCH", "Kernels", "kernels"]

SWITCH = "SAFETYVALVE_NATIVE"
"""Environment variable; ``off`` computes everything in torch."""

_SOURCES = Path(__file__).parent / "source"
_FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
_SECONDS = 120
"""That the compiler may take; it needs about three."""


class Kernels(NamedTuple):
    """What there is to call."""

    library: ctypes.CDLL | None
    tiles: bool
    """Products and attention in bf16 by AMX, which the processor must have and the system allow."""
    reason: str
    """For a person: what is used, or why nothing is."""


@cache
def kernels() -> Kernels:
    """The kernels for this processor; compiled at the first call on a machine, which takes some seconds."""
    if os.environ.get(SWITCH) == "off":
        return Kernels(None, False, f"switched off by {SWITCH}")
    if not sys.platform.startswith("linux"):
        return Kernels(None, False, f"compiled on Linux only, and this is {sys.platform}")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return Kernels(None, False, "no C compiler was found (cc, or what CC names)")
    try:
        library = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Kernels(None, False, f"{compiler} could not build them: {_short(error)}")
    tiles = library.sv_gemm_ready() == 1
    return Kernels(library, tiles, "compiled for this processor" + (", with AMX products" if tiles else ""))


def _compiled(compiler: str) -> Path:
    """The library's file, named after everything that goes into it."""
    sources = sorted(_SOURCES.iterdir())
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for source in sources:
        digest.update(source.read_bytes())
    digest.update(subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout)
    digest.update(_processor().encode())
    folder = cache_folder() / "native"
    made = folder / f"{digest.hexdigest()[:16]}.so"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            out = Path(scratch) / "kernels.so"
            files = [str(s) for s in sources if s.suffix == ".c"]
            command = [compiler, *_FLAGS, *files, "-lm", "-o", str(out)]
            subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
            out.replace(made)  # another process may have been as fast
    return made


def _processor() -> str:
    """What the compiler makes code for: a cache may move to another machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "unknown")


def _short(error: Exception) -> str:
    said = error.stderr.decode(errors="replace").strip() if isinstance(error, subprocess.CalledProcessError) else ""
    return (said or str(error)).splitlines()[0]
