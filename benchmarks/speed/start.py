"""How long a run takes to its first step, when what it can keep is kept and when nothing is.

    python -m benchmarks.speed.start [--hh FILE] [--goes 3]

``safetyvalve train`` with its defaults on the first pairs of hh-harmless, in a process of its own each time, stopped
when the measurement before the first step is done. The model is in the cache beforehand; tokens, reference
log-probabilities and that measurement are there from the second time on.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.workloads import HH
from safetyvalve.folders import cache_folder
from safetyvalve.models import resolve

ROWS = 150
"""Of the file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hh", type=Path, default=HH, help="test.jsonl.gz of hh-rlhf's harmless-base")
    parser.add_argument("--goes", type=int, default=3, help="with everything kept")
    options = parser.parse_args()
    resolve("smollm2-135m")  # converted, where it is not there yet
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "models").symlink_to(cache_folder() / "models")
        data = folder / "pairs.jsonl"
        with gzip.open(options.hh, "rt") as rows:
            data.write_text("".join(itertools.islice(rows, ROWS)))
        for number in range(options.goes + 1):
            told = "nothing kept" if number == 0 else "all kept"
            print(f"{told}: {_seconds(folder, data, number):.1f} s to the first step", flush=True)


def _seconds(folder: Path, data: Path, number: int) -> float:
    command = [sys.executable, "-c", "import sys; from safetyvalve.cli import main; sys.exit(main())", "train"]
    command += ["--data", str(data), "--output", str(folder / f"{number}")]
    command += ["--held-out", "30", "--steps", "10", "--prompts-per-step", "4"]
    begun = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"SAFETYVALVE_CACHE": str(folder)},
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "step 0:" in line:
                taken = time.perf_counter() - begun
                process.kill()
                return taken
    raise SystemExit(f"the run ended before its first step:\n{''.join(said)}")


if __name__ == "__main__":
    main()
