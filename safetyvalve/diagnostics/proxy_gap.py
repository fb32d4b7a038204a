"""How far a proxy runs ahead of another score, and what it goes with: shift and uncertainty, as measured covariates.

The theory names two sources of overoptimization, distribution shift and uncertainty of the reward. They cannot be told
apart from samples of one run: both grow together as the policy moves, and neither covariate measures its source
without error. So nothing is split; a regression says how the gap goes with each at given values of the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from safetyvalve.errors import UsageError
from safetyvalve.stats import Interval
from safetyvalve.stats.clusters import checked_confidence, checked_values, cluster_codes, cluster_covariance

__all__ = ["GapRegression", "Term", "gap_regression", "standardised_gap"]

Floats = NDArray[np.float64]
_LEAST_CLUSTERS = 10
_TOLERANCE = 1e-8
_HIGH_INFLATION = 10.0


class Term(NamedTuple):
    """One covariate of the regression."""

    name: str
    coefficient: Interval
    """Change of the gap, in standard deviations of the scores, with one standard deviation of the covariate."""
    mean: float
    deviation: float
    """Mean and standard deviation of the covariate, in its own unit."""
    inflation: float
    """Variance inflation factor: 1 where the other covariates tell nothing of it, 10 where they tell 90%."""


class GapRegression(NamedTuple):
    """Ordinary least squares of the gap on standardised covariates, with intervals clustered by prompt."""

    intercept: Interval
    """The mean gap."""
    terms: tuple[Term, ...]
    left_out: Mapping[str, str]
    """Covariates that cannot enter, with the reason: ``constant``, or ``collinear`` with those before it."""
    r_squared: float
    n_samples: int
    n_prompts: int
    cautions: tuple[str, ...]
    """``few_prompts`` (fewer than ten a coefficient) and ``entangled`` (an inflation above ten)."""


def standardised_gap(
    proxy: Sequence[float], score: Sequence[float], at_reference: Sequence[bool] | None = None
) -> Floats:
    """[sample] proxy minus score, each minus its mean and over its standard deviation at the reference.

    Above 0 the proxy likes the answer better than the other score does, both measured against the spread of the
    reference's own answers.

    Args:
        proxy, score: [sample], finite.
        at_reference: [sample] which were drawn from the reference; None standardises over all.

    Raises:
        UsageError: lengths that differ, values that are not finite, or reference samples that do not vary.
    """
    p, s = checked_values(proxy, "proxy"), checked_values(score, "score")
    chosen = np.ones(len(p), dtype=bool) if at_reference is None else np.asarray(at_reference, dtype=bool)
    if len(p) != len(s) or len(p) != len(chosen):
        raise UsageError(
            f"there are {len(p)} proxy scores, {len(s)} scores and {len(chosen)} marks; one of each a sample."
        )
    if chosen.sum() < 2:
        raise UsageError(f"{int(chosen.sum())} samples are of the reference; at least two are needed to standardise.")
    parts = []
    for name, values in (("proxy", p), ("score", s)):
        deviation = float(values[chosen].std(ddof=1))
        if deviation == 0:
            raise UsageError(
                f"the {name} is {values[chosen][0]:g} for every answer of the reference, so that nothing can be "
                "measured against its spread. Use a scorer that tells answers apart."
            )
        parts.append((values - values[chosen].mean()) / deviation)
    gap: Floats = parts[0] - parts[1]
    return gap


def gap_regression(
    gap: Sequence[float] | Floats,
    covariates: Mapping[str, Sequence[float] | Floats],
    prompts: Sequence[Hashable],
    *,
    confidence: float = 0.95,
) -> GapRegression:
    """Regress the gap on covariates.

    Samples of a prompt are one cluster (sandwich covariance, C/(C-1), t with C-1 degrees of freedom), so that answers
    to a prompt may be alike, at one checkpoint and across checkpoints.

    Args:
        gap: [sample].
        covariates: name to [sample], finite.
        prompts: [sample] labels.
        confidence: of each interval.

    Raises:
        UsageError: no covariates, lengths that differ, values that are not finite, or fewer than two prompts.
    """
    checked_confidence(confidence)
    y = checked_values(gap, "gap")
    codes, count = cluster_codes(prompts, len(y), "prompts")
    columns = {name: checked_values(values, name) for name, values in covariates.items()}
    for name, values in columns.items():
        if len(values) != len(y):
            raise UsageError(f"{name} has {len(values)} values for {len(y)} gaps; one a sample is accepted.")
    if not columns or count < 2:
        raise UsageError(f"there are {len(columns)} covariates and {count} prompts; at least one and two are needed.")
    kept, left_out = _independent(columns)
    means = {name: (float(columns[name].mean()), float(columns[name].std(ddof=1))) for name in kept}
    x = np.column_stack([np.ones(len(y)), *((columns[n] - means[n][0]) / means[n][1] for n in kept)])
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ y
    residuals = y - x @ coefficients
    covariance = inverse @ cluster_covariance(x * residuals[:, None], codes, count) @ inverse
    reach = float(distributions.t.ppf(0.5 + confidence / 2, count - 1))
    spans = [
        Interval(float(b), float(b - reach * e), float(b + reach * e), float(e), count)
        for b, e in zip(coefficients, np.sqrt(np.diag(covariance)), strict=True)
    ]
    inflations = np.diag(np.linalg.inv(np.corrcoef(x[:, 1:].T).reshape(len(kept), len(kept)))) if kept else np.empty(0)
    total = float(((y - y.mean()) ** 2).sum())
    cautions: tuple[str, ...] = ("few_prompts",) if count < _LEAST_CLUSTERS * (1 + len(kept)) else ()
    cautions += ("entangled",) if (inflations > _HIGH_INFLATION).any() else ()
    return GapRegression(
        spans[0],
        tuple(Term(n, i, *means[n], float(f)) for n, i, f in zip(kept, spans[1:], inflations, strict=True)),
        left_out,
        1 - float((residuals**2).sum()) / total if total else 0.0,
        len(y),
        count,
        cautions,
    )


def _independent(columns: Mapping[str, Floats]) -> tuple[list[str], dict[str, str]]:
    """Names of covariates that vary and are no combination of those before, and why others are not among them."""
    kept: list[str] = []
    left_out: dict[str, str] = {}
    basis: list[Floats] = []
    for name, values in columns.items():
        centred = values - values.mean()
        size = float(np.linalg.norm(centred))
        if size <= _TOLERANCE * max(1.0, float(np.abs(values).max())):
            left_out[name] = "constant"
            continue
        rest = centred / size
        for direction in basis:
            rest = rest - (direction @ rest) * direction
        if float(np.linalg.norm(rest)) < 1e-6:
            left_out[name] = "collinear"
            continue
        basis.append(rest / np.linalg.norm(rest))
        kept.append(name)
    return kept, left_out
