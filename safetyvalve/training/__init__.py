"""Training of policies: RPO and its relatives."""

from safetyvalve.training.algorithm import ALGORITHMS, Algorithm
from safetyvalve.training.estimate import Estimate
from safetyvalve.training.folder import RunFolder, environment
from safetyvalve.training.forward import Forward
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.monitor import OveroptimizationMonitor
from safetyvalve.training.multiplier import DisplacementMultiplier
from safetyvalve.training.objective import (
    DEFAULT_ETA,
    OBJECTIVES,
    Objective,
    ReferencedExample,
    Terms,
    Totals,
)
from safetyvalve.training.observation import Observation, Reporting, Valve
from safetyvalve.training.optimization import Checkpointing, FineTuning, Optimization
from safetyvalve.training.pipeline import DryRun, dry_run, resume_training, run_training
from safetyvalve.training.policy import PolicyTrainer
from safetyvalve.training.progress import Progress
from safetyvalve.training.run import TrainingResult, train_policy
from safetyvalve.training.sampling import Probe, SampleMeter
from safetyvalve.training.scoring import SampleScorer, Scorer
from safetyvalve.training.settings import RunSettings
from safetyvalve.training.sources import BASELINES, Baseline, DataSource, ModelSource

__all__ = [
    "ALGORITHMS",
    "BASELINES",
    "DEFAULT_ETA",
    "OBJECTIVES",
    "Algorithm",
    "Baseline",
    "Checkpointing",
    "DataSource",
    "DisplacementMultiplier",
    "DryRun",
    "Estimate",
    "FineTuning",
    "Forward",
    "HeldOutMeter",
    "ModelSource",
    "Objective",
    "Observation",
    "Optimization",
    "OveroptimizationMonitor",
    "PolicyTrainer",
    "Probe",
    "Progress",
    "ReferencedExample",
    "Reporting",
    "RunFolder",
    "RunSettings",
    "SampleMeter",
    "SampleScorer",
    "Scorer",
    "Terms",
    "Totals",
    "TrainingResult",
    "Valve",
    "dry_run",
    "environment",
    "resume_training",
    "run_training",
    "train_policy",
]
