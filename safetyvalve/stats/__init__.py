"""Statistics on plain arrays, and the verdict record that they read."""

from safetyvalve.stats.intervals import Interval, mean_interval
from safetyvalve.stats.verdicts import Position, RaterKind, Verdict, VerdictValue, append_verdicts

__all__ = ["Interval", "Position", "RaterKind", "Verdict", "VerdictValue", "append_verdicts", "mean_interval"]
