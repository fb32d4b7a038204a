"""Algorithm 1 of arXiv 2405.16436, played by two models: a policy, and a reward that is its adversary."""

from safetyvalve.training.maximin.adversary import Adversary, RewardStep
from safetyvalve.training.maximin.opponent import REWARD_FOLDER, Game, Opponent
from safetyvalve.training.maximin.reading import Draws, Reader
from safetyvalve.training.maximin.trainer import MaximinTrainer, Sampling

__all__ = [
    "REWARD_FOLDER",
    "Adversary",
    "Draws",
    "Game",
    "MaximinTrainer",
    "Opponent",
    "Reader",
    "RewardStep",
    "Sampling",
]
