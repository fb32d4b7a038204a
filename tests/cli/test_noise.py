"""Lines of libraries that say nothing to a user are left out, and only those."""

from __future__ import annotations

import logging

import pytest

from safetyvalve.cli.noise import leave_out_noise


def test_only_the_line_about_kernels(caplog: pytest.LogCaptureFixture) -> None:
    leave_out_noise()
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning(
        "Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please", "No module named 'kernels'"
    )
    logger.warning("another")
    assert caplog.messages == ["another"]
