"""The bootstrap over clusters, for statistics that are functions of sums over clusters."""

from __future__ import annotations

import numpy as np

from safetyvalve.errors import UsageError
from safetyvalve.stats.clusters import Codes, Floats

__all__ = ["bootstrap_sums", "sums_by_cluster"]

CHUNK = 4_000_000


def sums_by_cluster(rows: Floats, codes: Codes, n_clusters: int) -> Floats:
    """[n, d] rows summed within clusters: [C, d]."""
    sums = np.zeros((n_clusters, rows.shape[1]))
    np.add.at(sums, codes, rows)
    return sums


def bootstrap_sums(per_cluster: Floats, replicates: int, generator: np.random.Generator) -> Floats:
    """Sums of C clusters drawn with replacement, ``replicates`` times.

    Args:
        per_cluster: [C, d] sums within each cluster.
        replicates: at least 100; quantiles of fewer are noise.
        generator: where the draws come from.

    Returns:
        [replicates, d].
    """
    if replicates < 100:
        raise UsageError(f"replicates is {replicates}; at least 100 are accepted, 1000 or more are usual.")
    n = len(per_cluster)
    sums = np.empty((replicates, per_cluster.shape[1]))
    chunk = max(1, CHUNK // n)
    for start in range(0, replicates, chunk):
        stop = min(start + chunk, replicates)
        sums[start:stop] = generator.multinomial(n, np.full(n, 1 / n), size=stop - start) @ per_cluster
    return sums
