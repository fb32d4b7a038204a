"""Sampling answers: drawn by the batch, and kept as a pool that a killed process goes on with."""

from safetyvalve.generation.sampling import TOKEN_BUDGET, Sample, sample, sample_in_batches

__all__ = ["TOKEN_BUDGET", "Sample", "sample", "sample_in_batches"]
