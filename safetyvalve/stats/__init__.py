"""Statistics on plain arrays, the verdict record that they read, and what a file of verdicts tells."""

from safetyvalve.stats.agreement import Agreement, cohen_kappa, krippendorff_alpha, majority
from safetyvalve.stats.bradley_terry import Ranked, Ranking, bradley_terry, one_sided_models
from safetyvalve.stats.clusters import clustered_mean
from safetyvalve.stats.intervals import Interval, mean_interval, proportion_interval
from safetyvalve.stats.judge_bias import (
    CalibrationMap,
    Meaning,
    accuracy,
    calibration_map,
    family_bias,
    length_bias,
    meaning_of_verdicts,
    position_bias,
)
from safetyvalve.stats.length_control import LengthControlled, length_controlled_win_rate
from safetyvalve.stats.overview import Overview, summarize
from safetyvalve.stats.planning import Plan, plan_evaluation
from safetyvalve.stats.power import Design, Need, detectable_win_rate, power_of, required_prompts
from safetyvalve.stats.prediction_powered import PredictionPowered, ppi_mean
from safetyvalve.stats.reading import VerdictFile, read_verdicts
from safetyvalve.stats.resolve import Resolved, resolve
from safetyvalve.stats.sequential import Sequential, anytime_interval, confidence_sequence, log_e_value
from safetyvalve.stats.verdicts import Position, RaterKind, Verdict, VerdictValue, append_verdicts
from safetyvalve.stats.win_rate import WinRate, win_rate

__all__ = [
    "Agreement",
    "CalibrationMap",
    "Design",
    "Interval",
    "LengthControlled",
    "Meaning",
    "Need",
    "Overview",
    "Plan",
    "Position",
    "PredictionPowered",
    "Ranked",
    "Ranking",
    "RaterKind",
    "Resolved",
    "Sequential",
    "Verdict",
    "VerdictFile",
    "VerdictValue",
    "WinRate",
    "accuracy",
    "anytime_interval",
    "append_verdicts",
    "bradley_terry",
    "calibration_map",
    "clustered_mean",
    "cohen_kappa",
    "confidence_sequence",
    "detectable_win_rate",
    "family_bias",
    "krippendorff_alpha",
    "length_bias",
    "length_controlled_win_rate",
    "log_e_value",
    "majority",
    "mean_interval",
    "meaning_of_verdicts",
    "one_sided_models",
    "plan_evaluation",
    "position_bias",
    "power_of",
    "ppi_mean",
    "proportion_interval",
    "read_verdicts",
    "required_prompts",
    "resolve",
    "summarize",
    "win_rate",
]
