"""``safetyvalve plan``: how much data, how many judgments, how long, what money."""

from safetyvalve.release.plan.costs import CostLine, Costs, Rates, cost_lines, read_rates
from safetyvalve.release.plan.curve import CurvePlan, Probe, check_curve, plan_curve
from safetyvalve.release.plan.make import EvaluationPlan, MachineTime, ProjectPlan, make_plan, plan_people, sweep_steps
from safetyvalve.release.plan.noise import (
    NoisePlan,
    NoiseScenario,
    accuracy_ceiling,
    check_label_error,
    plan_noise,
    repeats_needed,
)
from safetyvalve.release.plan.settings import SettingsPlan, plan_settings
from safetyvalve.release.plan.text import plan_markdown

__all__ = [
    "CostLine",
    "Costs",
    "CurvePlan",
    "EvaluationPlan",
    "MachineTime",
    "NoisePlan",
    "NoiseScenario",
    "Probe",
    "ProjectPlan",
    "Rates",
    "SettingsPlan",
    "accuracy_ceiling",
    "check_curve",
    "check_label_error",
    "cost_lines",
    "make_plan",
    "plan_curve",
    "plan_markdown",
    "plan_noise",
    "plan_people",
    "plan_settings",
    "read_rates",
    "repeats_needed",
    "sweep_steps",
]
