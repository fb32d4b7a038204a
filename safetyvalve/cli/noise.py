"""Lines of libraries that tell a user of the command line nothing."""

from __future__ import annotations

import logging

__all__ = ["leave_out_noise"]


def leave_out_noise() -> None:
    """Apply to this process; before the libraries are imported.

    transformers' Trainer imports PEFT and PEFT imports bitsandbytes where it is installed, which then says in every run
    on a processor with bf16 that it found no package ``kernels``. It is for a kernel without gradients, which
    :func:`safetyvalve.quantized.keep_one_kernel` switches off.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_no_kernels)


def _no_kernels(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward from kernels-community" not in record.getMessage()
