"""Diagnostics: arrays in, results out."""

from safetyvalve.diagnostics.best_of_n import BestOfN, best_of_n, best_of_n_kl, best_of_n_values
from safetyvalve.diagnostics.overoptimization import Comparison, RunVerdict, compare_final, judge_run
from safetyvalve.diagnostics.proxy_gap import GapRegression, Term, gap_regression, standardised_gap
from safetyvalve.diagnostics.scaling import FORMS, Fit, Form, Peak, bootstrap_fit, fit_form
from safetyvalve.diagnostics.text import repetition

__all__ = [
    "FORMS",
    "BestOfN",
    "Comparison",
    "Fit",
    "Form",
    "GapRegression",
    "Peak",
    "RunVerdict",
    "Term",
    "best_of_n",
    "best_of_n_kl",
    "best_of_n_values",
    "bootstrap_fit",
    "compare_final",
    "fit_form",
    "gap_regression",
    "judge_run",
    "repetition",
    "standardised_gap",
]
