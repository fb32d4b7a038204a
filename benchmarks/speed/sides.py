"""A side as this process sees it: started, asked for rounds, ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.workloads import Workload

__all__ = ["Side"]

ROOT = Path(__file__).parents[2]


class Side:
    """A worker process of one side of one workload.

    TRL has the same allocator settings as our command line (``--keep-freed-memory``), which it does not set by itself.
    """

    def __init__(self, name: str, workload: Workload, examples: int, hh: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.speed.worker", name, workload.name]
        command += ["--examples", str(examples), "--hh", str(hh), "--keep-freed-memory"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
        )
        self.about: dict[str, Any] = self._read()

    def round(self, *, warm: bool = False) -> dict[str, float]:
        """Figures of a round, or of the few steps that warm up."""
        assert self.process.stdin is not None
        self.process.stdin.write("warm\n" if warm else "run\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.terminate()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended: {' '.join(self.process.args)}")  # type: ignore[arg-type]
        answer: dict[str, Any] = json.loads(line)
        return answer
