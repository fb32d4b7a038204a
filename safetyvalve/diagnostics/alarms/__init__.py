"""Alarms: what an evaluation says against the first one, with the chance of a false alarm stated."""

from safetyvalve.diagnostics.alarms.alarm import ALARMS, ALPHA, Alarm, Estimate, Evaluation, advice, share_of_look
from safetyvalve.diagnostics.alarms.drift import Bounds, Displacement, Drift
from safetyvalve.diagnostics.alarms.gap import ProxyGap
from safetyvalve.diagnostics.alarms.recorded import evaluation_of, loss_of, mean_loss
from safetyvalve.diagnostics.alarms.watch import Watch

__all__ = [
    "ALARMS",
    "ALPHA",
    "Alarm",
    "Bounds",
    "Displacement",
    "Drift",
    "Estimate",
    "Evaluation",
    "ProxyGap",
    "Watch",
    "advice",
    "evaluation_of",
    "loss_of",
    "mean_loss",
    "share_of_look",
]
