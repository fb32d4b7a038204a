"""Keeps memory that training frees, instead of handing it back to the system and faulting it in again.

A training step allocates and frees the same gigabytes every time. By default the C library returns large blocks to
the system at once, and each comes back page by page: on the machine of docs/performance.md a step took 1.3 million
page faults and a fifth of its time. The command line sets this before torch is imported; the library does not, since
it is the process's setting and not ours to change for an importing program.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Apply to this process; True where the C library took it (glibc). ``SAFETYVALVE_ALLOCATOR=system`` leaves it."""
    if os.environ.get("SAFETYVALVE_ALLOCATOR") == "system" or not sys.platform.startswith("linux"):
        return False
    # Read by torch when it first allocates: large blocks are then backed by large pages.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)
