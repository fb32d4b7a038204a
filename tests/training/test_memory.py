"""Memory that steps have freed goes back to the system where it piles up."""

from __future__ import annotations

import subprocess
import sys

import pytest

from safetyvalve.training import memory


def test_memory_is_handed_back_when_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the optimizer's state is there, at a tenth above a step's need, which is what a step after it has."""
    given: list[int] = []
    monkeypatch.setattr(memory, "hand_back", lambda: given.append(1) or True)
    freed = memory.FreedMemory()
    levels = [2.0, 4.0, 4.3, 4.5, 4.9, 5.0, 5.3, 5.5, 4.2]
    assert [freed.after_step(gib) for gib in levels] == [False, False, False, True, False, False, False, True, False]
    assert len(given) == 2


def test_memory_is_handed_back_to_the_system() -> None:
    """By the C library that the machine has: what is freed in between stays with the process until then."""
    script = """
import ctypes, sys
from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.training import memory
if not keep_freed_memory():
    sys.exit(77)
resident = lambda: memory.psutil.Process().memory_info().rss
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
block, last = malloc(2**28), malloc(64)
ctypes.memset(ctypes.c_void_p(block), 1, 2**28)
free(block)
kept = resident()
assert memory.hand_back()
print(kept - resident())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("not the GNU C library")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0.9 * 2**28
