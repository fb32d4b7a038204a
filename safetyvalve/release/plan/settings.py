"""beta and eta to begin with, on what grounds, and what to sweep."""

from __future__ import annotations

import math
from typing import NamedTuple

from safetyvalve.errors import UsageError
from safetyvalve.objectives import parity_margin

__all__ = ["BETA", "BETAS", "MULTIPLES", "Run", "SettingsPlan", "plan_settings"]

BETA = 0.05
"""The better of the two values tried in docs/study-hh.md, and the default of ``train``."""
BETAS = (0.02, 0.2)
"""To look at once eta is chosen: RPO is flat in beta on the test bed, and one's own data should say whether it is."""
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of 1 / sqrt(N): the test bed's grid, whose values are best from 1 to 2."""
SEEDS = 3


class Run(NamedTuple):
    """A training run of the sweep."""

    objective: str
    beta: float
    eta: float | None
    seeds: int
    purpose: str
    """``eta``: the sweep; ``control``: without the SFT term; ``beta``: a look aside; ``repeat``: further seeds of the
    best eta and of the control."""


class SettingsPlan(NamedTuple):
    """A start and a sweep. The theorem's constants are not used: they are thousands of times too large."""

    comparisons: int
    """N."""
    scale: float
    """1 / sqrt(N)."""
    beta: float
    eta: float
    """1 / sqrt(N), to two digits."""
    parity_margin: float
    """Nats: below this margin the preference loss pulls harder on a chosen response, above it the SFT term."""
    reduction: str
    runs: tuple[Run, ...]

    @property
    def n_runs(self) -> int:
        return sum(run.seeds for run in self.runs)


def plan_settings(comparisons: int) -> SettingsPlan:
    """Settings for so many comparisons.

    Args:
        comparisons: N, at least 1.
    """
    if comparisons < 1:
        raise UsageError(f"comparisons is {comparisons}; at least 1 is accepted.")
    scale = 1 / math.sqrt(comparisons)
    etas = [two_digits(m * scale) for m in MULTIPLES]
    eta = etas[MULTIPLES.index(1.0)]
    runs = [Run("rpo", BETA, e, 1, "eta") for e in etas]
    runs.append(Run("dpo", BETA, None, 1, "control"))
    runs += [Run("rpo", beta, eta, 1, "beta") for beta in BETAS]
    runs += [Run("rpo", BETA, eta, SEEDS - 1, "repeat"), Run("dpo", BETA, None, SEEDS - 1, "repeat")]
    return SettingsPlan(comparisons, scale, BETA, eta, parity_margin(eta), "sum", tuple(runs))


def two_digits(value: float) -> float:
    """Rounded to two significant digits: what is given to ``--eta``."""
    return float(f"{value:.1e}")
