"""The alarm on overoptimization itself: the proxy rises while the independent score falls."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from safetyvalve.diagnostics.alarms.alarm import Alarm, Evaluation, check_level, share_of_look
from safetyvalve.stats import log_e_value

__all__ = ["ProxyGap"]

CLIP = 3.0
"""Differences of a prompt are cut at this many standard deviations of the first evaluation's values."""


class ProxyGap:
    """An e-process over evaluations against "between no two evaluations did the score fall while the proxy rose".

    For each pair of evaluations s < t the differences ``d_i = new_i - old_i`` of the prompts, cut to ``c`` = 3 standard
    deviations of the first evaluation and put into [0, 1] as ``1/2 + d_i / 2c``, give an e-value against "the mean of
    the (cut) differences is not below 0" for the score and one against "not above 0" for the proxy
    (:func:`safetyvalve.stats.log_e_value`: capital that bets on it). If the score did not fall or the proxy did not
    rise, the expectation of the smaller of the two is at most 1. The process is::

        E_t = sum over u <= t of 1 / (u (u + 1)) * mean over s < u of min(e_score(s, u), e_proxy(s, u))

    Its terms' weights sum to 1, so whatever their dependence E[sup E_t] is at most 1, and by Markov's inequality E ever
    reaches 1 / alpha with a chance of at most alpha: the rule is ``E_t >= 1 / alpha``, with some term of evaluation t
    above its weight, so that an alarm ends when the score has come back. It holds at every evaluation at once and for
    any number of prompts; it takes prompts to be drawn independently. The cut is set by the first evaluation, which is
    one of those compared: exact for pairs of later ones.

    Without a reward of the answers, the training loss stands for the proxy: it rose where the loss went down, which is
    compared as it is, without an e-value.

    Args:
        alpha: chance of a false alarm in a whole run, in (0, 1).
    """

    def __init__(self, *, alpha: float) -> None:
        self.alpha = check_level(alpha)
        self._seen: list[Evaluation] = []
        self._log_e = -math.inf
        self._cuts: dict[str, float] = {}

    def see(self, new: Evaluation) -> Alarm | None:
        """Take an evaluation; None at the first, or where it has no score or nothing that stands for the proxy."""
        if not new.score or not (new.proxy or new.training_loss is not None):
            return None
        before, self._seen = self._seen, [*self._seen, new]
        for field in ("score", "proxy"):
            values = list(getattr(new, field).values())
            if field not in self._cuts and len(values) > 1:
                self._cuts[field] = CLIP * float(np.std(values, ddof=1))
        if not before:
            return None
        pairs = [self._pair(old, new) for old in before]
        look = len(before)
        weighted = [p + math.log(share_of_look(look, 1.0) / look) for p in pairs]
        self._log_e = float(np.logaddexp.reduce([self._log_e, *weighted]))
        worst = before[int(np.argmax(pairs))]
        shared = sorted(worst.score.keys() & new.score.keys())
        change = sum(new.score[p] - worst.score[p] for p in shared) / len(shared) if shared else 0.0
        limit = -math.log(self.alpha)
        # E never falls, so that a run that once reached the limit stays there; the score must still be down to be said.
        raised = self._log_e >= limit and max(pairs) > 0
        return Alarm("proxy-gap", new.step, raised, change, self._log_e, limit, len(shared), worst.step)

    def _pair(self, old: Evaluation, new: Evaluation) -> float:
        """log of the e-value of one pair of evaluations."""
        down = self._log_e_of("score", old, new, "below")
        if new.proxy and old.proxy:
            return min(down, self._log_e_of("proxy", old, new, "above"))
        if new.training_loss is None or old.training_loss is None or new.training_loss >= old.training_loss:
            return -math.inf
        return down

    def _log_e_of(self, field: str, old: Evaluation, new: Evaluation, side: str) -> float:
        a: Mapping[str, float] = getattr(old, field)
        b: Mapping[str, float] = getattr(new, field)
        shared = sorted(a.keys() & b.keys())
        cut = self._cuts.get(field, 0.0)
        if len(shared) < 2 or not cut:
            return -math.inf
        differences = np.array([b[p] - a[p] for p in shared])
        return log_e_value(0.5 + np.clip(differences / cut, -1, 1) / 2, side=side)
