"""Sampling answers: drawn by the batch, and kept as a pool that a killed process goes on with."""

from safetyvalve.generation.pool import Drawn, PoolSettings, draw_pool
from safetyvalve.generation.prompts import ReadyPrompt, ready_prompts
from safetyvalve.generation.sampling import TOKEN_BUDGET, Sample, sample, sample_in_batches

__all__ = [
    "TOKEN_BUDGET",
    "Drawn",
    "PoolSettings",
    "ReadyPrompt",
    "Sample",
    "draw_pool",
    "ready_prompts",
    "sample",
    "sample_in_batches",
]
