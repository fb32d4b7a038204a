"""What ``auto`` is on which machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetyvalve import precision
from safetyvalve.errors import UsageError
from safetyvalve.precision import autocast_of, settled
from safetyvalve.processor import Processor, this_processor
from safetyvalve.training import FineTuning, Optimization


@pytest.fixture(params=[("avx2 avx512f", "fp32"), ("avx2 avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("", "fp32")])
def expected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On a processor with some instructions, without a GPU."""
    instructions, name = request.param
    known = Processor("a processor", frozenset(instructions.split()))
    monkeypatch.setattr(precision, "this_processor", lambda: known)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return str(name)


def test_auto(expected: str) -> None:
    assert settled("auto") == expected
    assert autocast_of("auto") == (torch.bfloat16 if expected == "bf16" else None)


def test_what_is_asked_for_stays(expected: str) -> None:
    assert [settled(name) for name in ("bf16", "fp32")] == ["bf16", "fp32"]
    assert (autocast_of("bf16"), autocast_of("fp32")) == (torch.bfloat16, None)


def test_a_run_records_what_it_takes(expected: str) -> None:
    """So that it goes on in the same arithmetic on another machine."""
    assert Optimization().resolved(FineTuning()).precision == expected
    assert Optimization(precision="fp32").resolved(FineTuning()).precision == "fp32"


@pytest.mark.parametrize("able", [True, False])
def test_the_gpu_decides_where_there_is_one(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # Older ones emulate it.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or able)
    assert settled("auto") == ("bf16" if able else "fp32")


@pytest.mark.parametrize("ask", [settled, autocast_of])
def test_unknown(ask: object) -> None:
    with pytest.raises(UsageError, match="precision is 'fp8'; accepted: auto, bf16, fp32"):
        ask("fp8")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("told", "bf16"),
    [
        ("processor\t: 0\nmodel name\t: One\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nmodel name\t: Two\n", False),
        ("model name : One\nflags : avx512f avx512_bf16\n", True),
        ("processor : 0\nFeatures : fp asimd bf16 i8mm\n", True),
    ],
)
def test_what_linux_tells(tmp_path: Path, told: str, bf16: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(told)
    found = this_processor(info)
    assert found.bf16 == bf16
    assert found.name == "One" or "Features" in told
    assert found.instructions <= {"fpu", "avx2", "avx512f", "avx512_bf16", "fp", "asimd", "bf16", "i8mm"}


def test_generation(tmp_path: Path) -> None:
    """Zen 4 and Zen 5 may both be called AMD EPYC."""
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n")
    arm.write_text("processor : 0\nFeatures : fp asimd\n")
    assert this_processor(x86).generation == "family 26 model 2"
    assert this_processor(arm).generation == ""


def test_another_system(tmp_path: Path) -> None:
    found = this_processor(tmp_path / "none")
    assert (found.instructions, found.bf16) == (frozenset(), False)
