"""What the machine gave while something was timed: a clock says nothing about a server whose machine was elsewhere."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil

OTHERS, SLOW_WORK, SLOW_DISK = 0.10, 4.0, 10.0
"""From here on a time limit is not judged: share of the processors that others had, or that the host took away;
milliseconds of processor time of :func:`_work`; milliseconds of a small synced write, its 95th percentile."""


class Watch:
    """Within it the machine is watched twice a second.

    Args:
        folder: on the disk that the timed work writes to.
        parents: processes whose children are the timed work too, though not started from here.
    """

    def __init__(self, folder: Path, parents: tuple[int, ...] = ()) -> None:
        self.file, self.parents = folder / "watch", (os.getpid(), *parents)
        self.ours: dict[int, float] = {}
        self.work: list[float] = []
        self.synced: list[float] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self.before, self.busy_before = sum(self.ours.values()), _busy()
        self.started = time.perf_counter()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()
        self._look()
        spent = time.perf_counter() - self.started
        others = _busy() - self.busy_before - (sum(self.ours.values()) - self.before)
        self.others = others / spent / (os.cpu_count() or 1)
        self.file.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self.done.wait(0.5):
            self._look()
            started = time.thread_time()
            _work()
            self.work.append(1000 * (time.thread_time() - started))
            started = time.perf_counter()
            with self.file.open("wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
            self.synced.append(1000 * (time.perf_counter() - started))

    def _look(self) -> None:
        for parent in self.parents:
            try:
                family = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in family:
                try:
                    spent = process.cpu_times()
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
                self.ours[process.pid] = spent.user + spent.system

    def excuse(self) -> str | None:
        """Why a time limit is not to be judged, or None."""
        work, disk = float(np.median(self.work)), float(np.quantile(self.synced, 0.95))
        if self.others > OTHERS:
            return f"others had {self.others:.0%} of the processors"
        if work > SLOW_WORK:
            return f"the processor took {work:.1f} ms for what takes 1 to 2"
        if disk > SLOW_DISK:
            return f"a small synced write took {disk:.0f} ms"
        return None


def _work() -> int:
    return sum(i * i for i in range(20_000))


def _busy() -> float:
    """Seconds of the processors that anybody used, or that the host took away, since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
