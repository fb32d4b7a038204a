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
from safetyvalve.training.progress import Progress
from safetyvalve.training.run import Observation, Optimization, TrainingResult, train_policy
from safetyvalve.training.sampling import Probe, SampleMeter, Scorer

__all__ = [
    "DEFAULT_ETA",
    "OBJECTIVES",
    "HeldOutMeter",
    "Objective",
    "Observation",
    "Optimization",
    "PairTerms",
    "PolicyTrainer",
    "Probe",
    "Progress",
    "ReferencedExample",
    "RunFolder",
    "SampleMeter",
    "Scorer",
    "Totals",
    "TrainingResult",
    "environment",
    "split_by_tokens",
    "train_policy",
]
