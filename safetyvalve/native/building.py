"""Compiles the kernels for this processor, once, and loads them."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch  # noqa: F401  # before the kernels: they then share its OpenMP threads

from safetyvalve.folders import cache_folder
from safetyvalve.processor import this_processor

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
    vectors: bool
    """Products in fp32 and bf16 in vectors of 512 bits: on AMD's processors, where torch's are slower."""
    reason: str
    """For a person: what is used, or why nothing is."""
    version: str = "torch"
    """Of what computes: other kernels round otherwise."""


@cache
def kernels() -> Kernels:
    """The kernels for this processor; compiled at the first call on a machine, which takes some seconds."""
    if os.environ.get(SWITCH) == "off":
        return _none(f"switched off by {SWITCH}")
    if not sys.platform.startswith("linux"):
        return _none(f"compiled on Linux only, and this is {sys.platform}")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler or shutil.which(compiler[0]) is None:
        return _none("no C compiler was found (cc, or what CC names)")
    try:
        said = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout
        if b"clang" in said:
            # Its threads would be others than torch's, and each would wait for the other's to leave the processor.
            return _none(f"{compiler[0]} is clang, which brings another OpenMP than torch's: set CC=gcc")
        made = _folder() / f"{_version(said)}.so"
        library = _loaded(compiler, made)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return _none(f"{compiler[0]} could not build them: {_short(error)}")
    tiles = library.sv_gemm_ready() == 1
    vectors = library.sv_product_ready() == 1 and this_processor().maker == "AuthenticAMD"
    added = ", with AMX products" if tiles else ", with AVX-512 products" if vectors else ""
    kinds = [name for name, has in (("tiles", tiles), ("vectors", vectors)) if has]
    reason = f"compiled for this processor{added}"
    return Kernels(library, tiles=tiles, vectors=vectors, reason=reason, version=" ".join([made.stem, *kinds]))


def _none(reason: str) -> Kernels:
    return Kernels(None, tiles=False, vectors=False, reason=reason)


def _version(compiler: bytes) -> str:
    """A name for everything that goes into the library."""
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.read_bytes())
    digest.update(compiler)
    # What the compiler makes code for: a cache may move to another machine.
    digest.update(" ".join(sorted(this_processor().instructions)).encode())
    return digest.hexdigest()[:16]


def _folder() -> Path:
    """Where libraries are kept, which nobody else may write to: what lies there is run."""
    folder = cache_folder() / "native"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeError(f"'{folder}' can be written by others; remove it, or chmod 700 it")
    return folder


def _loaded(compiler: list[str], made: Path) -> ctypes.CDLL:
    if made.exists():
        with contextlib.suppress(OSError):  # cut short, or made beside another C library
            return ctypes.CDLL(str(made))
    with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
        out = Path(scratch) / "kernels.so"
        files = [str(s) for s in sorted(_SOURCES.glob("*.c"))]
        command = [*compiler, *_FLAGS, *files, "-lm", "-o", str(out)]
        subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
        library = ctypes.CDLL(str(out))  # before it is kept
        out.replace(made)  # another process may have been as fast
    return library


def _short(error: Exception) -> str:
    said = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else ""
    lines = said.strip().splitlines() or str(error).splitlines() or [type(error).__name__]
    return next((line for line in lines if "error" in line), lines[0])
