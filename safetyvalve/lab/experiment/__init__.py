"""The controlled experiment on overoptimization: a known gold, a proxy that learned from few of its labels, and what
becomes of the gold when policies are optimised against the proxy (arXiv 2210.10760, section 2; ensembles: arXiv
2310.02743)."""

from safetyvalve.lab.experiment.gold import Gold, model_gold, scorer_gold
from safetyvalve.lab.experiment.results import report_lab
from safetyvalve.lab.experiment.run import run_lab
from safetyvalve.lab.experiment.settings import BEST_OF_N, METHODS, POLICIES, PRESETS, LabSettings, recorded_precision

__all__ = [
    "BEST_OF_N",
    "METHODS",
    "POLICIES",
    "PRESETS",
    "Gold",
    "LabSettings",
    "model_gold",
    "recorded_precision",
    "report_lab",
    "run_lab",
    "scorer_gold",
]
