"""Many models on one scale by their pairwise wins, with intervals and what the comparisons cannot tell."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph
from scipy.special import expit

from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.stats.clusters import Floats, checked_confidence, checked_values, cluster_codes
from safetyvalve.stats.intervals import Interval
from safetyvalve.stats.resampling import bootstrap_sums

__all__ = ["Ranked", "Ranking", "bradley_terry", "one_sided_models", "strengths_of"]

STEPS = 200
ELO = 400 / math.log(10)


class Ranked(NamedTuple):
    """One model of a ranking."""

    model: str
    strength: Interval
    """Log-odds against the average of all models; the chance to beat another is sigmoid of the difference."""
    best_rank: int
    worst_rank: int
    """1 + the models shown to be stronger (weaker counted from below), each pair at the confidence asked for."""

    @property
    def elo(self) -> float:
        """The strength on the Elo scale around 1000 (400 points are odds of ten to one)."""
        return 1000 + ELO * self.strength.estimate


class Ranking(NamedTuple):
    """Models from strongest to weakest."""

    models: tuple[Ranked, ...]
    prior: float
    one_sided_draws: int
    """Bootstrap draws in which a model only won or only lost and the prior had to hold it."""


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    scores: Sequence[float] | Floats,
    clusters: Sequence[Hashable],
    *,
    prior: float = 0.0,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Ranking:
    """Bradley-Terry strengths by Newton's method; a tie is half a win for each.

    Intervals and ranks come from a bootstrap that resamples clusters. A draw in which some model only wins or only
    loses has no finite estimate; it gets a prior of one half even if ``prior`` is 0, and is counted.

    Args:
        first, second: [n] names of the models compared.
        scores: [n] in [0, 1]: what ``first`` won.
        clusters: [n] labels, mostly prompts.
        prior: verdicts added to every pair of models that was compared, half won by each; 0 is maximum likelihood.
        confidence: in (0, 1).
        replicates: bootstrap draws.
        seed: of the draws.

    Raises:
        UsageError: values that are not accepted, a model compared with itself.
        DataError: models that no chain of comparisons connects; or, without a prior, a group of models that won all
            its comparisons with the others, which puts it infinitely far above.
    """
    y = checked_values(scores, "scores", low=0, high=1)
    if not len(first) == len(second) == y.size:
        raise UsageError(
            f"there are {len(first)} and {len(second)} models and {y.size} scores; one of each is accepted."
        )
    if prior < 0 or not np.isfinite(prior):
        raise UsageError(f"prior is {prior}; 0 (maximum likelihood) or a small number such as 0.5 is accepted.")
    if same := [a for a, b in zip(first, second, strict=True) if a == b]:
        raise UsageError(f"{shorten(same[0])} is compared with itself; leave such rows out.")
    models = sorted({*first, *second})
    m = len(models)
    place = {model: i for i, model in enumerate(models)}
    i = np.array([place[a] for a in first])
    j = np.array([place[b] for b in second])
    codes, groups = cluster_codes(clusters, y.size)
    cells = np.zeros((groups, m * m))
    np.add.at(cells, (codes, i * m + j), y)
    np.add.at(cells, (codes, j * m + i), 1 - y)
    wins = cells.sum(0).reshape(m, m)
    _check(wins, models, prior)
    strengths = strengths_of((wins + _floor(prior, wins))[None])[0]
    return _ranking(models, strengths, cells, wins, prior, checked_confidence(confidence), replicates, seed)


def _ranking(
    models: list[str],
    strengths: Floats,
    cells: Floats,
    wins: Floats,
    prior: float,
    confidence: float,
    replicates: int,
    seed: int,
) -> Ranking:
    m, groups = len(models), len(cells)
    drawn = np.full((1, m), np.nan)
    one_sided = np.zeros(1, dtype=bool)
    if groups > 1:
        tables = bootstrap_sums(cells, replicates, np.random.default_rng(seed)).reshape(-1, m, m)
        one_sided = np.array([_parts(t + _floor(prior, wins))[0] > 1 for t in tables])
        held = np.where(one_sided, max(prior, 0.5), prior)[:, None, None]
        drawn = strengths_of(tables + held * _floor(1.0, wins))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    differences = np.quantile(drawn[:, :, None] - drawn[:, None, :], tail, axis=0) > 0
    ranked = []
    for k in np.argsort(-strengths, kind="stable"):
        error = float(drawn[:, k].std(ddof=1)) if groups > 1 else np.inf
        ends = (float(low[k]), float(high[k])) if groups > 1 else (-np.inf, np.inf)
        interval = Interval(float(strengths[k]), *ends, error, groups)
        better, worse = int(differences[:, k].sum()), int(differences[k].sum())
        ranked.append(Ranked(models[k], interval, 1 + better, m - worse))
    return Ranking(tuple(ranked), prior, int(one_sided.sum()))


def strengths_of(wins: Floats) -> Floats:
    """Maximum-likelihood strengths, mean 0, of each win matrix.

    Args:
        wins: [R, m, m]; entry i, j is what i won from j. Each must be strongly connected (see ``one_sided_models``).

    Returns:
        [R, m] log-odds.

    Raises:
        DataError: Newton's method did not settle.
    """
    r, m, _ = wins.shape
    games = wins + wins.transpose(0, 2, 1)
    s = np.zeros((r, m))
    for _ in range(STEPS):
        p = expit(s[:, :, None] - s[:, None, :])
        gradient = (wins - games * p).sum(2)
        weight = games * p * (1 - p)
        # The Laplacian of the weights; ones fill the direction in which all strengths move together.
        curvature = np.ones((m, m)) / m - weight
        curvature[:, np.arange(m), np.arange(m)] += weight.sum(2)
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        largest = np.abs(step).max(1, initial=0)
        s += step * np.minimum(1, 1 / np.maximum(largest, 1e-300))[:, None]
        if largest.max() < 1e-10:
            centred: Floats = s - s.mean(1, keepdims=True)
            return centred
    raise DataError(
        f"the ranking did not settle in {STEPS} steps; a model nearly always wins: pass a prior such as 0.5."
    )


def one_sided_models(first: Sequence[str], second: Sequence[str], scores: Sequence[float] | Floats) -> list[list[str]]:
    """Groups, strongest first, of which each won everything against all later ones; one group if all is finite.

    Ford's condition (1957): finite strengths exist when every model is reached from every other by a chain of wins.
    """
    models = sorted({*first, *second})
    place = {model: i for i, model in enumerate(models)}
    wins = np.zeros((len(models), len(models)))
    for a, b, score in zip(first, second, scores, strict=True):
        wins[place[a], place[b]] += score
        wins[place[b], place[a]] += 1 - score
    n, labels = _parts(wins)
    # The condensation is acyclic: a group's place is how many models it reaches by wins.
    reach = np.isfinite(csgraph.shortest_path(wins > 0, unweighted=True)).sum(1)
    groups = [[models[k] for k in np.flatnonzero(labels == g)] for g in range(n)]
    return sorted(groups, key=lambda g: -int(reach[place[g[0]]]))


def _parts(wins: Floats) -> tuple[int, Floats]:
    n, labels = csgraph.connected_components(wins > 0, directed=True, connection="strong")
    return int(n), labels


def _floor(prior: float, wins: Floats) -> Floats:
    return np.where(wins + wins.T > 0, prior / 2, 0.0)


def _check(wins: Floats, models: list[str], prior: float) -> None:
    n, labels = csgraph.connected_components(wins + wins.T > 0, directed=False)
    if n > 1:
        groups = [", ".join(models[k] for k in np.flatnonzero(labels == g)) for g in range(n)]
        raise DataError(
            f"no comparisons connect these groups: {' | '.join(groups)}; rank each on its own, or compare a model of "
            "one with a model of another."
        )
    if prior == 0:
        strong, part = _parts(wins)
        if strong > 1:
            sets = [set(np.flatnonzero(part == g)) for g in range(strong)]
            others = set(range(len(models)))
            top = next(g for g in sets if not any(wins[k, i] > 0 for i in g for k in others - g))
            names = ", ".join(models[k] for k in sorted(top))
            raise DataError(
                f"{names} never lost to the other models, so that no finite strength exists; pass a prior such as 0.5, "
                "or collect more verdicts."
            )
