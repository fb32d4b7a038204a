"""Training of reward models."""

from safetyvalve.training.reward.examples import RewardExample
from safetyvalve.training.reward.run import RewardResult, resume_reward, train_reward
from safetyvalve.training.reward.settings import TASK, Ensemble, Learning, RewardSettings, Uncertainty
from safetyvalve.training.reward.trainer import RewardTrainer

__all__ = [
    "TASK",
    "Ensemble",
    "Learning",
    "RewardExample",
    "RewardResult",
    "RewardSettings",
    "RewardTrainer",
    "Uncertainty",
    "resume_reward",
    "train_reward",
]
