"""Help answers at once and names every command."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

import safetyvalve
from safetyvalve.cli import main


def _processor_seconds() -> float:
    """Of the processes that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_fast() -> None:
    """Processor time, best of five, so that a busy machine does not fail it; a heavy import costs seconds."""
    times = []
    for _ in range(5):
        started = _processor_seconds()
        done = subprocess.run(
            [sys.executable, "-c", "from safetyvalve.cli import main; raise SystemExit(main(['--help']))"],
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(_processor_seconds() - started)
    assert all(
        c in done.stdout for c in ("quickstart", "data", "init", "train", "doctor", "report", "judge", "testbed")
    )
    assert min(times) < 0.5


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from safetyvalve.cli import main; main(['train', '--help']); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"safetyvalve {safetyvalve.__version__}"
