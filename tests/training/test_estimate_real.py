"""The dry run against the run, on the real model and the shipped comparisons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CLOCK = """
import signal, time
import numpy as np

class Work:
    '''The processor's time, counted in products of matrices that it could have computed meanwhile.

    On a shared host the same thread computes a third less for minutes, so that seconds of one process are not those of
    the next. A fixed product, asked twice in a second of processor time, says how fast it is now.
    '''

    def __init__(self):
        self.left, self.right = np.ones((512, 576), np.float32), np.ones((576, 1536), np.float32)
        self.done, self.since, self.rate = 0.0, 0.0, 1.0
        self.look()
        signal.signal(signal.SIGPROF, self.look)
        signal.setitimer(signal.ITIMER_PROF, 0.5, 0.5)

    def look(self, *_):
        self.done = self.now()
        took = []
        for _ in range(3):
            begun = time.process_time()
            self.left @ self.right
            took.append(time.process_time() - begun)
        self.since, self.rate = time.process_time(), 1 / min(took)

    def now(self):
        return self.done + (time.process_time() - self.since) * self.rate

time.perf_counter = Work().now
"""

SCRIPT = """
import json, sys
import torch
torch.set_num_threads(1)
from importlib.resources import files
from pathlib import Path
from safetyvalve.cli.allocator import keep_freed_memory
keep_freed_memory()
from safetyvalve.training import DataSource, Observation, Optimization, RunSettings, dry_run, run_training
from safetyvalve.training.memory import peak_resident_bytes

settings = RunSettings(
    "run",
    DataSource(files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl"), held_out=200),
    optimization=Optimization(steps=7, prompts_per_step=4, token_budget=1024),
    observation=Observation(every=7, held_out_examples=24, prompts=6, max_new_tokens=12),
)
begun = time.perf_counter()
if sys.argv[1] == "dry":
    told = dry_run(settings).estimate
    parts = told.seconds
    print(json.dumps([told.peak_bytes, told.total_seconds, parts["steps"] + parts["evaluations"]]))
else:
    run_training(settings, Path(sys.argv[1]))
    total = time.perf_counter() - begun
    rows = [json.loads(line) for line in Path(sys.argv[1], "metrics.jsonl").read_text().splitlines()]
    spent = [r for r in rows if r["kind"] == "evaluation"][-1]["seconds"]
    print(json.dumps([peak_resident_bytes(), total, spent]))
signal.setitimer(signal.ITIMER_PROF, 0)  # at its end the interpreter has no handler any more
"""

ROUNDS = 3


def measure(argument: str) -> list[float]:
    """Peak resident bytes; time of the whole; time of steps and evaluations, both in CLOCK's unit."""
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CLOCK + SCRIPT, argument], capture_output=True, text=True, check=False, env=alone
    )
    assert done.returncode == 0, done.stderr
    found: list[float] = json.loads(done.stdout)
    return found


def test_estimate_and_reality(tmp_path: Path) -> None:
    """Memory and time within 20%, each in a process of its own.

    Where they are not, more rounds tell an error of the estimate, which stays, from one of the clock, which does not.
    """
    sums = [[0.0] * 3, [0.0] * 3]
    for number in range(ROUNDS):
        for side, argument in enumerate(("dry", str(tmp_path / str(number)))):
            sums[side] = [s + f for s, f in zip(sums[side], measure(argument), strict=True)]
        ratios = [told / was for told, was in zip(*sums, strict=True)]
        print(dict(zip(("memory", "whole run", "steps and evaluations"), ratios, strict=True)))
        if all(0.8 < ratio < 1.2 for ratio in ratios):
            return
    raise AssertionError(f"after {ROUNDS} rounds the dry run tells {ratios} times what happens")
