"""The dry run against the run, on the real model and the shipped comparisons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys, time
time.perf_counter = time.process_time  # the processor's time on one thread: other work on the machine does not move it
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
"""


def measure(argument: str) -> list[float]:
    """Peak resident bytes; seconds of the whole; seconds of steps and evaluations."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, argument], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[float] = json.loads(done.stdout)
    return found


def test_estimate_and_reality(tmp_path: Path) -> None:
    """Memory and time within 20%, each in a process of its own.

    In the order A B B A: a shared host's speed drifts by half within minutes, which one of each would take for error.
    """
    order = ("dry", str(tmp_path / "first"), str(tmp_path / "second"), "dry")
    a, b, c, d = (measure(argument) for argument in order)
    ratios = [(first + last) / (one + other) for first, one, other, last in zip(a, b, c, d, strict=True)]
    print(dict(zip(("memory", "whole run", "steps and evaluations"), ratios, strict=True)))
    assert all(0.8 < ratio < 1.2 for ratio in ratios), ratios
