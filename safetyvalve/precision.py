"""In which type a model computes: the one that was asked for, or the faster one here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetyvalve.errors import UsageError
from safetyvalve.processor import this_processor

if TYPE_CHECKING:
    import torch

__all__ = ["PRECISIONS", "autocast_of", "settled"]

PRECISIONS = ("auto", "bf16", "fp32")


def settled(precision: str) -> str:
    """``bf16`` or ``fp32``: ``auto`` takes bf16 where the GPU or the processor has instructions for it.

    Elsewhere torch multiplies bf16 number by number: on a processor with AVX2 alone a step takes several times as long
    as in fp32.

    Raises:
        UsageError: an unknown name.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is '{precision}'; accepted: {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision
    import torch  # only now: the command line shows its help without it

    gpu = torch.cuda.is_available()
    able = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else this_processor().bf16
    return "bf16" if able else "fp32"


def autocast_of(precision: str) -> torch.dtype | None:
    """What autocast computes in; None where nothing is cast.

    Raises:
        UsageError: an unknown name.
    """
    import torch

    return torch.bfloat16 if settled(precision) == "bf16" else None
