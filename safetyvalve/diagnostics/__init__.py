"""Diagnostics: arrays in, results out."""

from safetyvalve.diagnostics.overoptimization import Comparison, RunVerdict, compare_final, judge_run
from safetyvalve.diagnostics.text import repetition

__all__ = ["Comparison", "RunVerdict", "compare_final", "judge_run", "repetition"]
