"""Statistics on plain arrays."""

from safetyvalve.stats.intervals import Interval, mean_interval

__all__ = ["Interval", "mean_interval"]
