"""Reward models: a scalar head, ensembles, what they are worth, and what they are unsure of."""

from safetyvalve.rewards.calibration import Calibration, calibration
from safetyvalve.rewards.classifier import Reading
from safetyvalve.rewards.evaluation import ComparedPair, distribution, evaluate_pairs, pairs_to_judge
from safetyvalve.rewards.folder import ensemble_hash, load_reward, save_reward
from safetyvalve.rewards.ledger import Item, ScoreLine, join_scores, read_scores, score_items
from safetyvalve.rewards.model import SHARINGS, RewardModel, Sharing
from safetyvalve.rewards.record import Aggregation, RewardRecord
from safetyvalve.rewards.scores import AGGREGATIONS, Scores, aggregate, spread
from safetyvalve.rewards.staleness import Staleness, staleness
from safetyvalve.rewards.starting import Start, load_start
from safetyvalve.rewards.votes import Votes, votes_of_verdicts
from safetyvalve.rewards.width import SOURCES, Width, fit_width

__all__ = [
    "AGGREGATIONS",
    "SHARINGS",
    "SOURCES",
    "Aggregation",
    "Calibration",
    "ComparedPair",
    "Item",
    "Reading",
    "RewardModel",
    "RewardRecord",
    "ScoreLine",
    "Scores",
    "Sharing",
    "Staleness",
    "Start",
    "Votes",
    "Width",
    "aggregate",
    "calibration",
    "distribution",
    "ensemble_hash",
    "evaluate_pairs",
    "fit_width",
    "join_scores",
    "load_reward",
    "load_start",
    "pairs_to_judge",
    "read_scores",
    "save_reward",
    "score_items",
    "spread",
    "staleness",
    "votes_of_verdicts",
]
