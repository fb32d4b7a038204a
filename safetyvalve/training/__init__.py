"""Training of policies: RPO and its relatives."""

from safetyvalve.training.folder import RunFolder, environment
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.objective import (
    DEFAULT_ETA,
    OBJECTIVES,
    Objective,
    PairTerms,
    ReferencedExample,
    Totals,
)
from safetyvalve.training.policy import PolicyTrainer, split_by_tokens
from safetyvalve.training.pipeline import run_training
from safetyvalve.training.progress import Progress
from safetyvalve.training.run import TrainingResult, train_policy
from safetyvalve.training.sampling import Probe, SampleMeter, Scorer
from safetyvalve.training.settings import DataSource, ModelSource, Observation, Optimization, RunSettings

__all__ = [
    "DEFAULT_ETA",
    "OBJECTIVES",
    "DataSource",
    "HeldOutMeter",
    "ModelSource",
    "Objective",
    "Observation",
    "Optimization",
    "PairTerms",
    "PolicyTrainer",
    "Probe",
    "Progress",
    "ReferencedExample",
    "RunFolder",
    "RunSettings",
    "SampleMeter",
    "Scorer",
    "Totals",
    "TrainingResult",
    "environment",
    "run_training",
    "split_by_tokens",
    "train_policy",
]
