"""What this machine can do and what it lacks, each finding with its remedy. Only the cache is written to."""

from safetyvalve.doctor.examination import examine
from safetyvalve.doctor.finding import Finding
from safetyvalve.doctor.limits import Limits, read_limits

__all__ = ["Finding", "Limits", "examine", "read_limits"]
