"""Reward models: a scalar head, ensembles, and what they are unsure of."""

from safetyvalve.rewards.classifier import Reading
from safetyvalve.rewards.folder import ensemble_hash, load_reward, save_reward
from safetyvalve.rewards.model import SHARINGS, RewardModel, Sharing
from safetyvalve.rewards.record import Aggregation, RewardRecord
from safetyvalve.rewards.scores import AGGREGATIONS, Scores, aggregate, spread
from safetyvalve.rewards.starting import Start, load_start
from safetyvalve.rewards.width import SOURCES, Width, fit_width

__all__ = [
    "AGGREGATIONS",
    "SHARINGS",
    "SOURCES",
    "Aggregation",
    "Reading",
    "RewardModel",
    "RewardRecord",
    "Scores",
    "Sharing",
    "Start",
    "Width",
    "aggregate",
    "ensemble_hash",
    "fit_width",
    "load_reward",
    "load_start",
    "save_reward",
    "spread",
]
