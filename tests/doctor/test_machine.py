"""What is said of processor, memory and disk."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import CDLL
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from safetyvalve.doctor import Limits, machine
from safetyvalve.doctor.finding import Finding
from safetyvalve.native import Kernels

NONE = Limits(None, None, 0)


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_threads_beyond_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    found = only(machine.processor(NONE._replace(cores=2.0)))
    assert found.status == "note"
    assert "limited to 2 by the container" in found.found
    assert "OMP_NUM_THREADS=" in found.remedy


def test_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "set it to 8" in only(machine.processor(NONE)).remedy
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert only(machine.processor(NONE)).status == "ok"


def test_memory_within_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * gib, available=60 * gib))
    assert only(machine.memory(NONE)).status == "ok"
    tight = only(machine.memory(Limits(None, 4 * gib, 3 * gib)))
    assert tight.status == "problem"
    assert "of 4.0, the container's limit" in tight.found
    assert "smollm2-135m does not fit" in tight.remedy
    assert "--token-budget" in only(machine.memory(Limits(None, 6 * gib, gib))).remedy


@pytest.mark.parametrize("taken", ["fp32", "bf16"])
@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_the_faster_precision_is_recommended(monkeypatch: pytest.MonkeyPatch, faster: str, taken: str) -> None:
    """Where what the default takes is another one."""
    monkeypatch.setattr(machine, "settled", lambda _: taken)
    fast = {"fp32": torch.float32, "bf16": torch.bfloat16}[faster]
    monkeypatch.setattr(machine, "_rate", lambda dtype, _: 100.0 if dtype is fast else 40.0)
    found = only(machine.arithmetic())
    assert f"takes {taken}" in found.found
    assert found.status == ("ok" if faster == taken else "note")
    assert found.status == "ok" or f"--precision {faster}" in found.remedy
    monkeypatch.setattr(machine, "_rate", lambda dtype, _: 105.0 if dtype is fast else 100.0)
    assert only(machine.arithmetic()).status == "ok"


@pytest.mark.parametrize("built", [True, False])
def test_kernels(monkeypatch: pytest.MonkeyPatch, built: bool) -> None:
    known = Kernels(CDLL(None) if built else None, tiles=False, vectors=False, reason="what there is")
    monkeypatch.setattr(machine, "kernels", lambda: known)
    found = only(machine.compiled())
    assert (found.status, found.found) == ("ok" if built else "note", "what there is")
    assert built or "compiler" in found.remedy


def test_the_rate_is_measured() -> None:
    assert 0.01 < machine._rate(torch.float32, torch.device("cpu"), size=128, seconds=0.01) < 1e6


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    output, cache = machine.folders(tmp_path / "new" / "runs", tmp_path / "file")
    assert output.check == "output"
    assert output.status in ("ok", "note")
    assert (cache.check, cache.status) == ("cache", "problem")
    assert "SAFETYVALVE_CACHE" in cache.remedy
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
