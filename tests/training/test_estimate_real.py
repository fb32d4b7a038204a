"""The dry run against the run, on the real model and the shipped comparisons."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

OPTIONS = [
    *["--held-out", "200", "--steps", "8", "--eval-every", "8", "--prompts-per-step", "4", "--token-budget", "1024"],
    *["--held-out-examples", "16", "--sample-prompts", "8", "--max-new-tokens", "16"],
]


def run(arguments: list[str]) -> tuple[str, float]:
    """What a command prints, and the most memory that it had resident, in GiB."""
    code = "from safetyvalve.cli import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert isinstance(usage, resource.struct_rusage)
    return out, usage.ru_maxrss / 2**20


def test_estimate_and_reality(tmp_path: Path) -> None:
    """Memory within 20%. Time within a factor of 1.5 only: other work on the machine moves both sides."""
    with as_file(files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl")) as data:
        shared = ["train", "--data", str(data), *OPTIONS]
        told, _ = run([*shared, "--dry-run"])
        _, peak = run([*shared, "--output", str(tmp_path / "run")])
    expected = float(re.search(r"memory: ([\d.]+) GiB", told)[1])  # type: ignore[index]
    assert 0.8 < expected / peak < 1.2
    parts = dict(re.findall(r"(evaluations|steps) (\d+ (?:s|min))", told))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    spent = [r for r in rows if r["kind"] == "evaluation"][-1]["seconds"]
    factor = {"s": 1, "min": 60}
    foreseen = sum(int(n) * factor[unit] for n, unit in (text.split() for text in parts.values()))
    assert 1 / 1.5 < foreseen / spent < 1.5
