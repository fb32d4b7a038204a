"""eta as the multiplier of a constraint on displacement: people set nats per token, dual ascent finds the weight.

The constraint of ``--max-displacement e``: on the baseline's responses the policy's log-probability may fall by at most
e nats a token, ``D = E[log pi_ref - log pi] / E[tokens] <= e``. The Lagrangian of the preference loss under it is that
loss plus a multiple of D, and D is, up to a constant that does not depend on the policy, the SFT term: RPO's eta (times
beta and the mean length) *is* the multiplier. Dual ascent raises it while the constraint is violated and lowers it
while there is room.

D is measured on held-out responses, a few at each step. On training responses it stops meaning anything once an example
is seen a second time: the policy remembers those while it loses all others (dev/LOG.md). Multipliers that follow other
data than the gradients are those of Cotter et al. 2019 (arXiv 1807.00028).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetyvalve.errors import RunError, UsageError

__all__ = ["STATE_FILE", "DisplacementMultiplier", "check_limit"]

STATE_FILE = "multiplier.json"
"""In a checkpoint."""
LARGEST_VIOLATION = 1.0


def check_limit(limit: float) -> None:
    """Refuse a limit that is not a finite number above 0."""
    if not (math.isfinite(limit) and limit > 0):
        raise UsageError(
            f"max_displacement is {limit}; it must be a finite number above 0, in nats per token, such as 0.05."
        )


class DisplacementMultiplier:
    """Finds eta step by step, from the displacement that is measured before each step's update.

    With the relative violation ``v = (D - limit) / limit``, cut to [-1, 1], and its running mean ``m``::

        log lambda <- log lambda + rate * v        the multiplier: dual ascent in its logarithm
        eta        =  lambda * exp(damping * max(m, 0))    what the step uses

    both kept within ``[least, most]``. The ascent is in the logarithm (mirror ascent, whose steps are exponentiated
    gradients): a good eta may be 0.05 or 5, and the same steps must reach either. The second line answers the violation
    itself and not only its sum, upwards only, which damps the oscillation that dual ascent alone has against a policy
    that answers late (the proportional term of PID Lagrangian methods, Stooke, Achiam and Abbeel 2020, arXiv
    2007.03964). docs/eta.md says where the constants come from.

    Args:
        limit: most displacement on the baseline's responses, in nats per token, above 0.
        start: eta of the first step. Too high costs progress in the first steps and too low costs displacement, which
            is hard to take back; so a run starts high.
        rate, damping: step size of the ascent; weight of the running mean.
        memory: share of the running mean that a step keeps, in [0, 1).
        least, most: bounds of eta.

    Raises:
        UsageError: a limit or a start out of range.
    """

    def __init__(
        self,
        limit: float,
        *,
        start: float = 3.0,
        rate: float = 0.2,
        damping: float = 3.0,
        memory: float = 0.5,
        least: float = 1e-3,
        most: float = 1e3,
    ) -> None:
        check_limit(limit)
        if not least <= start <= most:
            raise UsageError(
                f"eta is {start}; with max_displacement it is where the search starts, accepted from {least:g} to "
                f"{most:g}."
            )
        self.limit, self.rate, self.damping, self.memory = limit, rate, damping, memory
        self.least, self.most = least, most
        self.log_multiplier, self.mean_violation, self.eta = math.log(start), 0.0, start

    def observe(self, displacement: float) -> float:
        """Take the displacement before a step, in nats per token and above 0 for a fall; returns the step's eta."""
        violation = (displacement - self.limit) / self.limit
        violation = min(max(violation, -LARGEST_VIOLATION), LARGEST_VIOLATION)
        moved = self.log_multiplier + self.rate * violation
        self.log_multiplier = min(max(moved, math.log(self.least)), math.log(self.most))
        self.mean_violation = self.memory * self.mean_violation + (1 - self.memory) * violation
        eta = math.exp(self.log_multiplier + self.damping * max(0.0, self.mean_violation))
        self.eta = min(max(eta, self.least), self.most)
        return self.eta

    def save(self, checkpoint: Path) -> None:
        """Its state, exact: JSON writes the shortest decimal that reads back as the same float."""
        (checkpoint / STATE_FILE).write_text(json.dumps(self._state()) + "\n", encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """What :meth:`save` wrote.

        Raises:
            RunError: the checkpoint has none, or of another limit.
        """
        file = checkpoint / STATE_FILE
        if not file.is_file():
            raise RunError(f"checkpoint '{checkpoint}' has no {STATE_FILE}; eta cannot go on from it. Start a new run.")
        state = json.loads(file.read_text(encoding="utf-8"))
        if state["limit"] != self.limit:
            raise RunError(
                f"checkpoint '{checkpoint}' was made with max_displacement {state['limit']} and the run says "
                f"{self.limit}; a run is resumed with its own settings. Restore config.yaml, or start a new run."
            )
        self.log_multiplier, self.mean_violation = state["log_multiplier"], state["mean_violation"]
        self.eta = state["eta"]

    def _state(self) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "log_multiplier": self.log_multiplier,
            "mean_violation": self.mean_violation,
            "eta": self.eta,
        }
