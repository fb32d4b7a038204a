"""A test bed for the theory: small problems with exact solutions, run through the losses that training ships."""

from __future__ import annotations

from safetyvalve.testbed.bound import Bound, log_cover, suboptimality_bound
from safetyvalve.testbed.chipo import chipo_loss
from safetyvalve.testbed.coverage import coverage, laplacian, linear_coverage
from safetyvalve.testbed.custom import load_objective
from safetyvalve.testbed.direct import DirectProblem, DirectSolution, lower_bound, solve_maximin
from safetyvalve.testbed.generate import SETTINGS, draw_case, draw_setting
from safetyvalve.testbed.links import kl_link, mixed_chi2_link
from safetyvalve.testbed.methods import Data, ensemble_min, preference_only, rpo
from safetyvalve.testbed.output import Outcome, Table, write
from safetyvalve.testbed.problem import (
    Problem,
    bradley_terry,
    chosen_baseline,
    expected_kl,
    expected_reward,
    independent_pairs,
    sample_wins,
)
from safetyvalve.testbed.solve import Solution, check_bounded, solve
from safetyvalve.testbed.stochastic import Played, Steps, play

__all__ = [
    "SETTINGS",
    "Bound",
    "Data",
    "DirectProblem",
    "DirectSolution",
    "Outcome",
    "Played",
    "Problem",
    "Solution",
    "Steps",
    "Table",
    "bradley_terry",
    "check_bounded",
    "chipo_loss",
    "chosen_baseline",
    "coverage",
    "draw_case",
    "draw_setting",
    "ensemble_min",
    "expected_kl",
    "expected_reward",
    "independent_pairs",
    "kl_link",
    "laplacian",
    "linear_coverage",
    "load_objective",
    "log_cover",
    "lower_bound",
    "mixed_chi2_link",
    "play",
    "preference_only",
    "rpo",
    "sample_wins",
    "solve",
    "solve_maximin",
    "suboptimality_bound",
    "write",
]
