"""How a score goes with the distance from the reference: the two forms of the literature, fitted, and their peak.

With d = sqrt(KL(policy || reference)) in sqrt(nats) and R(d) the gain in score over the reference, R(0) = 0:
best-of-n ``R(d) = d (alpha - beta d)``, optimised policies ``R(d) = d (alpha - beta log d)`` (arXiv 2210.10760,
section 3). Both are linear in alpha and beta. They are descriptions of a curve and no law: they were found for reward
models that learned from a gold model, and nothing says that a given run follows one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetyvalve.errors import UsageError
from safetyvalve.stats import Interval

__all__ = ["FORMS", "Fit", "Form", "Peak", "bootstrap_fit", "fit_form"]

Floats = NDArray[np.float64]
Form = Literal["best_of_n", "optimised"]
FORMS: tuple[Form, ...] = ("best_of_n", "optimised")
LEAST_POINTS = 3
"""Distances above 0 that a fit of two coefficients needs, so that something is left over to judge it by."""


class Peak(NamedTuple):
    """Where the fitted curve is highest.

    ``kind`` is ``within`` (it lies within the distances seen, and so does its whole interval), ``unsure`` (it lies
    within them, its interval reaches beyond) or ``none`` (the curve still rises at the largest distance seen).
    """

    kind: Literal["within", "unsure", "none"]
    distance: Interval | None
    """In sqrt(nats), over bootstrap samples of prompts; a bound is infinite where so many of these have no peak. None
    for ``none``."""
    height: Interval | None
    """The gain there, in the unit of the score; None for ``none``."""
    share_within: float
    """Of bootstrap samples whose peak lies within the distances seen."""


class Fit(NamedTuple):
    """A form fitted to a curve."""

    form: Form
    alpha: Interval
    beta: Interval
    peak: Peak
    residual: float
    """Root of the (weighted) mean squared residual, in the unit of the score."""
    reach: float
    """Largest distance seen."""
    n_points: int
    n_prompts: int

    def __call__(self, distance: float) -> float:
        """The fitted gain at a distance of at least 0."""
        return float(_value(self.form, np.array([distance]), self.alpha.estimate, self.beta.estimate)[0])


def fit_form(
    form: Form, distances: Sequence[float], gains: Sequence[float], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """Least squares of one form: alpha and beta. Points at distance 0 say nothing and are left out.

    Args:
        form: ``best_of_n`` or ``optimised``.
        distances: [point] sqrt(KL), at least 0.
        gains: [point] score minus that of the reference.
        weights: [point] above 0, such as inverse variances; None weighs all alike.

    Raises:
        UsageError: lengths that differ, a value that is not finite or out of range, fewer than three distances above 0.
    """
    d, y = np.asarray(distances, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)
    _check(form, d, y, w)
    alpha, beta = _solve(form, d[None], y[None], w)[0].tolist()
    return alpha, beta


def bootstrap_fit(
    form: Form,
    kl: Sequence[Sequence[float]],
    gains: Sequence[Sequence[float]],
    *,
    weights: Literal["variance", "equal"] = "variance",
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Fit:
    """Fit one form to the curve of the means, with percentile intervals over bootstrap samples of prompts.

    A prompt comes or goes with all its checkpoints, so that what they share is allowed for; the checkpoints themselves
    are taken as given.

    Args:
        form: ``best_of_n`` or ``optimised``.
        kl: [prompt][point] in nats, the mean over a prompt's samples; equal rows where it is known.
        gains: [prompt][point] score minus that of the reference on the same prompt.
        weights: ``variance`` weighs a point by the inverse of the squared standard error of its mean gain; all alike
            where a gain does not vary.
        replicates: bootstrap samples, at least 100.
        confidence: of the intervals.
        seed: of the bootstrap.

    Raises:
        UsageError: as :func:`fit_form`; fewer than two prompts; shapes that differ.
    """
    k, y = np.asarray(kl, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    if k.ndim != 2 or k.shape != y.shape or len(k) < 2:
        raise UsageError(
            f"kl has shape {k.shape} and gains {y.shape}; both are [prompt][point], of two prompts or more."
        )
    if replicates < 100:
        raise UsageError(f"replicates is {replicates}; at least 100 are accepted, 1000 or more are usual.")
    # A KL that is computed exactly at each token is never negative but for rounding.
    d = np.sqrt(np.clip(k.mean(0), 0, None))
    w = _inverse_variances(y) if weights == "variance" else np.ones(y.shape[1])
    _check(form, d, y.mean(0), w)
    alpha, beta = _solve(form, d[None], y.mean(0)[None], w)[0]
    n = len(k)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates) / n
    drawn = _solve(form, np.sqrt(np.clip(draws @ k, 0, None)), draws @ y, w)
    left = _value(form, d, alpha, beta) - y.mean(0)
    seen = d > 0

    def interval(estimate: float, values: Floats) -> Interval:
        low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")
        error = float(values.std(ddof=1)) if np.isfinite(values).all() else math.inf
        return Interval(float(estimate), float(low), float(high), error, n)

    reach = float(d.max())
    return Fit(
        form,
        interval(alpha, drawn[:, 0]),
        interval(beta, drawn[:, 1]),
        _peak(form, (alpha, beta), drawn, reach, interval),
        math.sqrt(float((w[seen] * left[seen] ** 2).sum() / w[seen].sum())),
        reach,
        int(seen.sum()),
        n,
    )


def _check(form: Form, d: Floats, y: Floats, w: Floats) -> None:
    if form not in FORMS:
        raise UsageError(f"form is '{form}'; accepted: {', '.join(FORMS)}.")
    if d.ndim != 1 or d.shape != y.shape or d.shape != w.shape:
        raise UsageError(f"there are {d.shape} distances, {y.shape} gains and {w.shape} weights; one of each a point.")
    if not (np.isfinite(d).all() and np.isfinite(y).all() and (d >= 0).all()):
        raise UsageError("a distance or gain is not finite, or a distance below 0; leave such points out, and say so.")
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise UsageError("a weight is not finite or not above 0; leave such points out, or weigh all alike.")
    if len(set(d[d > 0].tolist())) < LEAST_POINTS:
        raise UsageError(
            f"there are {len(set(d[d > 0].tolist()))} distances above 0; at least {LEAST_POINTS} are needed to fit two "
            "coefficients and see how well they do. Evaluate more often (--eval-every)."
        )


def _columns(form: Form, d: Floats) -> tuple[Floats, Floats]:
    """What alpha and beta multiply; the limit of d log d at 0 is 0."""
    second = d**2 if form == "best_of_n" else d * np.log(np.where(d > 0, d, 1.0))
    return d, -second


def _value(form: Form, d: Floats, alpha: float, beta: float) -> Floats:
    first, second = _columns(form, d)
    return alpha * first + beta * second


def _solve(form: Form, d: Floats, y: Floats, w: Floats) -> Floats:
    """[replicate, 2] alpha and beta from [replicate, point] distances and gains, by the normal equations.

    They are scaled by the length of the columns first: then two columns of sizes far apart lose no digits.
    """
    a, b = _columns(form, d)
    size_a, size_b = (np.sqrt((w * x**2).sum(-1)) for x in (a, b))
    size_a, size_b = (np.where(s > 0, s, 1.0) for s in (size_a, size_b))
    a, b = a / size_a[:, None], b / size_b[:, None]
    aa, bb, ab = ((w * p * q).sum(-1) for p, q in ((a, a), (b, b), (a, b)))
    ay, by = (w * a * y).sum(-1), (w * b * y).sum(-1)
    determinant = aa * bb - ab**2
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha, beta = (bb * ay - ab * by) / determinant, (aa * by - ab * ay) / determinant
    result: Floats = np.stack([alpha / size_a, beta / size_b], axis=-1)
    return result


def _inverse_variances(y: Floats) -> Floats:
    variances = y.var(axis=0, ddof=1) / len(y)
    if (variances > 0).sum() < len(variances):
        # At the reference itself the gain is 0 by definition, without an error; that point has no part in the fit.
        least = variances[variances > 0].min(initial=np.inf)
        variances = np.where(variances > 0, variances, least if np.isfinite(least) else 1.0)
    return np.asarray(1 / variances, dtype=np.float64)


def _top(form: Form, alpha: Floats, beta: Floats) -> tuple[Floats, Floats]:
    """Distance and height of the highest point; infinite where the curve rises for ever."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if form == "best_of_n":
            distance = np.where(beta > 0, np.clip(alpha, 0, None) / (2 * beta), np.where(alpha > 0, np.inf, 0.0))
            height = np.where(np.isfinite(distance), distance * (alpha - beta * distance), np.inf)
        else:
            distance = np.where(beta > 0, np.exp(alpha / beta - 1), np.inf)
            height = np.where(np.isfinite(distance), beta * distance, np.inf)
    return distance, height


def _peak(
    form: Form,
    fitted: tuple[float, float],
    drawn: Floats,
    reach: float,
    interval: Callable[[float, Floats], Interval],
) -> Peak:
    distance, height = _top(form, np.array([fitted[0]]), np.array([fitted[1]]))
    distances, heights = _top(form, drawn[:, 0], drawn[:, 1])
    share = float((distances <= reach).mean())
    if distance[0] > reach:
        return Peak("none", None, None, share)
    where = interval(float(distance[0]), distances)
    return Peak("within" if where.high <= reach else "unsure", where, interval(float(height[0]), heights), share)
