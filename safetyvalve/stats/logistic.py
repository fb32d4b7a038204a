"""Logistic regression of scores in [0, 1] with clustered errors; refuses data that have no finite answer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats
from scipy.optimize import linprog
from scipy.special import expit

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.clusters import (
    Codes,
    Floats,
    checked_confidence,
    checked_values,
    cluster_codes,
    crossed_covariance,
)

__all__ = ["LogisticFit", "logistic_fit", "separated"]

STEPS = 100


class LogisticFit(NamedTuple):
    """Coefficients [k] in log-odds, their clustered covariance [k, k], and t quantiles to go with it."""

    coefficients: Floats
    covariance: Floats
    degrees: int
    quantile: float
    """Of Student's t for the confidence asked for."""

    def reach(self, direction: Floats) -> float:
        """Half width of the interval of ``direction @ coefficients``."""
        return self.quantile * math.sqrt(max(float(direction @ self.covariance @ direction), 0.0))


def logistic_fit(
    design: Floats,
    scores: Sequence[float] | Floats,
    clusters: Sequence[Hashable],
    *,
    crossed: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> LogisticFit:
    """Quasi-likelihood fit of E[score] = sigmoid(design @ coefficients).

    Scores of one half enter as such; with scores that are not 0 or 1 the likelihood is a quasi-likelihood, whose
    estimate is consistent and whose sandwich covariance is valid (Papke and Wooldridge 1996).

    Args:
        design: [n, k] finite, of full column rank.
        scores: [n] in [0, 1].
        clusters: [n] labels; at least two.
        crossed: [n] labels of a second way of clustering.
        confidence: in (0, 1), for ``quantile``.

    Raises:
        UsageError: shapes, values or labels that are not accepted.
        DataError: one cluster, a design without full rank, or separated data, which have no finite estimate.
    """
    checked_confidence(confidence)
    y = checked_values(scores, "scores", low=0, high=1)
    x = np.asarray(design, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] != y.size or not np.isfinite(x).all():
        raise UsageError(f"design has shape {x.shape}; {y.size} rows of finite numbers, one a score, are accepted.")
    one = cluster_codes(clusters, y.size)
    two = None if crossed is None else cluster_codes(crossed, y.size, "crossed")
    if min(one[1], two[1] if two else one[1]) < 2:
        raise DataError("there is only one cluster, which says nothing about spread; at least two are needed.")
    if np.linalg.matrix_rank(x, rtol=1e-6) < x.shape[1]:
        raise DataError("the columns of the design depend on one another; leave out a column or collect other data.")
    if separated(x, y):
        raise DataError(
            "a combination of the terms tells all wins from all losses, so that no finite estimate exists; "
            "collect more verdicts or leave a term out."
        )
    return _newton(x, y, one, two, confidence)


def _newton(
    x: Floats, y: Floats, one: tuple[Codes, int], two: tuple[Codes, int] | None, confidence: float
) -> LogisticFit:
    b = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = expit(x @ b)
        information = (x * (p * (1 - p))[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (y - p))
        # Concave; a step of at most 2 log-odds in any fitted value keeps Newton from overshooting.
        largest = float(np.abs(x @ step).max())
        b = b + step * min(1.0, 2 / largest if largest else 1.0)
        if largest < 1e-10:
            break
    else:
        raise DataError(
            f"the fit did not settle in {STEPS} steps; the data are nearly separated: collect more verdicts."
        )
    p = expit(x @ b)
    bread = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x)
    meat, degrees = crossed_covariance(x * (y - p)[:, None], one, two)
    return LogisticFit(b, bread @ meat @ bread, degrees, float(stats.t.ppf(0.5 + confidence / 2, degrees)))


def separated(design: Floats, scores: Floats) -> bool:
    """Whether a direction exists along which the likelihood never falls (Albert and Anderson 1984), by linear program.

    Args:
        design: [n, k] of full column rank.
        scores: [n] in [0, 1]; scores strictly between pin their row: along it nothing may change.
    """
    inner = (scores > 0) & (scores < 1)
    signs = np.where(scores == 1, 1.0, -1.0)[~inner]
    rows = design[~inner] * signs[:, None]
    if not len(rows):
        return False
    # Equal rows say the same; designs of a few columns shrink a hundredfold.
    rows, pinned = np.unique(rows, axis=0), np.unique(design[inner], axis=0)
    found = linprog(
        -rows.sum(0),
        A_ub=sparse.csr_array(-rows),
        b_ub=np.zeros(len(rows)),
        A_eq=sparse.csr_array(pinned) if len(pinned) else None,
        b_eq=np.zeros(len(pinned)) if len(pinned) else None,
        bounds=(-1, 1),
        method="highs",
    )
    return bool(-found.fun > 1e-7 * max(1.0, float(np.abs(rows).max())))
