"""Models whose linear layers are held in 4 bits (nf4) by bitsandbytes, to train an adapter on (QLoRA).

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, arXiv 2305.14314.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from safetyvalve.errors import ModelError, shorten

__all__ = ["four_bit_config", "full_precision", "keep_one_kernel"]


def four_bit_config(compute: torch.dtype) -> BitsAndBytesConfig:
    """How transformers is to load a model in nf4 with doubly quantised scales, after a check that it can be.

    Args:
        compute: the type in which the layers compute.

    Raises:
        ModelError: bitsandbytes is not installed, or cannot quantise on this machine.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    remedy = "Use --fine-tune lora, which needs no 4-bit weights."
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    except ImportError as error:
        raise ModelError(
            f"QLoRA holds the base in 4 bits by the package bitsandbytes, which cannot be imported here "
            f"({shorten(str(error), 120)}). Install it with `pip install 'safetyvalve[qlora]'`. {remedy}"
        ) from None
    probe = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64)
    try:
        difference = (dequantize_4bit(*quantize_4bit(probe, quant_type="nf4")) - probe).abs().max().item()
    except Exception as error:  # whatever a native library does on a machine that it was not built for
        raise ModelError(
            f"bitsandbytes cannot quantise to 4 bits on this machine's {device} ({type(error).__name__}: "
            f"{shorten(str(error), 120)}). {remedy}"
        ) from error
    if not difference < 0.16:  # neighbouring values of nf4 are at most 0.304 apart
        raise ModelError(
            f"bitsandbytes is wrong on this machine's {device}: values between -1 and 1 came back from 4 bits with an "
            f"error of {difference:.2g}, where at most 0.16 is possible. {remedy}"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """Within it quantised layers compute in fp32, whatever type they were loaded to compute in."""
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "quant_state") and hasattr(m, "compute_dtype")]
    before = [m.compute_dtype for m in layers]
    for layer in layers:
        layer.compute_dtype = torch.float32
    try:
        yield
    finally:
        for layer, dtype in zip(layers, before, strict=True):
            layer.compute_dtype = dtype


def keep_one_kernel(model: PreTrainedModel) -> None:
    """Have a quantised model compute by the kernel that has gradients, also where it needs none.

    On CPUs with bf16 instructions bitsandbytes repacks the weights of a layer in evaluation mode for a kernel that
    rounds to bf16 and has no gradient: of SmolLM2's 210 adapters 60 were then trained, without an error.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
