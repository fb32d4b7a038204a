"""All alarms of a run, fed one evaluation at a time."""

from __future__ import annotations

from safetyvalve.diagnostics.alarms.alarm import ALARMS, ALPHA, Alarm, Evaluation, check_level
from safetyvalve.diagnostics.alarms.drift import Bounds, Displacement, Drift
from safetyvalve.diagnostics.alarms.gap import ProxyGap

__all__ = ["Watch"]


class Watch:
    """The five alarms, each with a fifth of ``alpha``, so that a run in which nothing moves beyond the tolerances
    raises any of them with a chance of at most alpha.

    Its state is what it was shown: showing the same evaluations in the same order to a new one restores it.

    Args:
        alpha: chance of any false alarm in a whole run, in (0, 1).
        displacement: tolerated fall of the chosen responses' log-probability, nats per token.
        length: tolerated change of the answers' mean length, as a share.
        repetition: tolerated rise of the share of repeated n-grams.
        uncertainty: tolerated growth of the proxy's uncertainty, as a share.
    """

    def __init__(
        self,
        *,
        alpha: float = ALPHA,
        displacement: float = 0.1,
        length: float = 0.25,
        repetition: float = 0.05,
        uncertainty: float = 0.25,
    ) -> None:
        each = check_level(alpha) / len(ALARMS)
        self._displacement = Displacement(displacement, alpha=each)
        self._gap = ProxyGap(alpha=each)
        self._length = Drift("length", Bounds(1 + length, low_factor=1 - length), alpha=each)
        self._repetition = Drift("repetition", Bounds(add=repetition), alpha=each)
        self._uncertainty = Drift("uncertainty", Bounds(1 + uncertainty), alpha=each)

    def see(self, evaluation: Evaluation) -> list[Alarm]:
        """What each alarm says; those without what they need, and all at the first evaluation, say nothing."""
        step = evaluation.step
        said = [
            self._displacement.see(step, evaluation.displacement) if step else None,
            self._gap.see(evaluation),
            self._length.see(step, evaluation.tokens),
            self._repetition.see(step, evaluation.repetition),
            self._uncertainty.see(step, evaluation.spread),
        ]
        return [alarm for alarm in said if alarm is not None]
