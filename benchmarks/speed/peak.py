"""The machine's own limit: the fastest matrix product of a precision."""

from __future__ import annotations

import torch

from safetyvalve.training.peak import gemm_peak

__all__ = ["Peak"]


class Peak:
    """Measured anew every round."""

    def __init__(self, precision: str) -> None:
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.about = {"threads": torch.get_num_threads()}

    def round(self, steps: int | None = None) -> dict[str, float]:
        return {"operations_per_second": gemm_peak(self.dtype)}
