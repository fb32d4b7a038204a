"""What a release's margins and traffic will take: simulated candidates, day after day, through the gates themselves.

Good candidates have the planned values; bad ones lose exactly the margin on one guardrail and are good on all others,
which is where a promotion by mistake is likeliest; harmful ones lose twice what rolls back (or the margin, if that is
more) on one guardrail that rolls back. Metrics are drawn independently of each other, units independently within them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from safetyvalve.errors import UsageError
from safetyvalve.release.staged.change import Arms, OneMean
from safetyvalve.release.staged.gates import FEWEST
from safetyvalve.release.staged.settings import Guardrail, Planning, Settings, Stage
from safetyvalve.stats.clusters import Floats
from safetyvalve.stats.two_arms import Arm, Bounded, Gaussian

__all__ = ["Days", "Simulated", "StageForecast", "simulate_release"]

Bools = NDArray[np.bool_]
LEVELS = 9
"""Values that a bounded metric takes in a simulation: quantiles' means of a beta distribution."""
NEVER = 10**6


class Days(NamedTuple):
    """Days until something happens, of the releases in which it does: 10%, half, 90% of them."""

    early: float
    median: float
    late: float


@dataclass(frozen=True)
class StageForecast:
    """What a stage does to simulated candidates. Chances are shares of the simulated releases."""

    stage: str
    good_leaves: float
    """A good candidate can be promoted within the days simulated."""
    good_stopped: float
    """A good candidate fails a gate or is rolled back."""
    days: Days | None
    """Until a good candidate can be promoted."""
    bad_leaves: float
    """The largest chance over guardrails that a candidate which loses that one's margin can be promoted."""
    bad_metric: str
    harm_days: Days | None
    """Until a harmful candidate is rolled back; None where nothing rolls back."""
    harm_stopped: float | None
    slowest: str
    """Guardrail that good candidates wait for most often."""


@dataclass(frozen=True)
class Simulated:
    """What to expect of a release."""

    releases: int
    days: int
    """Simulated at most, in each stage."""
    stages: tuple[StageForecast, ...]
    good_reaches_full: float
    good_stopped: float
    bad_reaches_full: float
    """Largest chance that a candidate which is bad on one guardrail passes every stage in which that guardrail "
    "gates."""
    bad_metric: str
    allowed_bad: float
    allowed_stop: float
    left_out: tuple[str, ...]
    """Guardrails without ``planning``: taken to pass at once."""


def simulate_release(
    settings: Settings,
    *,
    releases: int = 2000,
    days: int = 60,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Simulated:
    """Simulate releases with a look at the gates every day.

    Args:
        settings: of the release; guardrails need ``planning``.
        releases: simulated of each kind.
        days: simulated at most in each stage.
        seed: of the draws.
        say: told what is under way.

    Raises:
        UsageError: no guardrail has a planning, or one that does not fit its metric.
    """
    if releases < 1 or days < 1:
        raise UsageError(f"there are {releases} releases of {days} days; at least 1 of each is accepted.")
    planned = [g for g in settings.guardrails if g.planning is not None]
    if not planned:
        raise UsageError(
            "no guardrail of release.yaml has a planning; `planning: {per_day: 500, control: 0.02}` is accepted. Add "
            "what you expect."
        )
    draw = np.random.default_rng(seed)
    forecasts, leaves, stops = [], np.ones(releases, bool), np.zeros(releases, bool)
    bad_through = {g.metric: np.ones(releases, bool) for g in planned}
    for stage in settings.stages[:-1]:
        say(stage.name)
        found = _stage(settings, stage, [g for g in planned if g.gates(stage)], releases, days, draw)
        forecasts.append(found.forecast)
        stops |= leaves & found.stopped
        leaves &= found.left
        for metric, passed in found.bad.items():
            bad_through[metric] &= passed
        for metric in bad_through.keys() - found.bad.keys():
            bad_through[metric] &= found.left
    worst = max(bad_through, key=lambda m: float(bad_through[m].mean()))
    return Simulated(
        releases,
        days,
        tuple(forecasts),
        float(leaves.mean()),
        float(stops.mean()),
        float(bad_through[worst].mean()),
        worst,
        settings.error_rates.promote,
        settings.error_rates.stop,
        tuple(g.metric for g in settings.guardrails if g.planning is None),
    )


class _Stage(NamedTuple):
    forecast: StageForecast
    left: Bools
    """[release] of good candidates."""
    stopped: Bools
    bad: dict[str, Bools]
    """Guardrail -> [release] that a candidate which is bad on it alone is promoted."""


class _Path(NamedTuple):
    """One guardrail through a stage, [day, release]."""

    passes: Bools
    stops: Bools


def _stage(
    settings: Settings, stage: Stage, guardrails: list[Guardrail], releases: int, days: int, draw: np.random.Generator
) -> _Stage:
    good = {g.metric: _path(settings, stage, g, _good(g), releases, days, draw) for g in guardrails}
    enough = np.arange(1, days + 1) >= stage.min_days
    everything = [p.passes for p in good.values()]
    stopped_at = _first(np.logical_or.reduce([p.stops for p in good.values()])) if good else np.full(releases, NEVER)
    left_at = _first(np.logical_and.reduce(everything) & enough[:, None]) if good else np.full(releases, stage.min_days)
    left = left_at < stopped_at
    bad = {}
    for g in guardrails:
        path = _path(settings, stage, g, _loses(g, g.margin), releases, days, draw)
        others = [p for metric, p in good.items() if metric != g.metric] + [path]
        leaves = _first(np.logical_and.reduce([p.passes for p in others]) & enough[:, None])
        bad[g.metric] = leaves < _first(np.logical_or.reduce([p.stops for p in others]))
    harm_at: list[NDArray[np.int64]] = []
    for g in guardrails:
        if g.rollback_at is not None:
            loss = max(2 * g.rollback_at, g.margin, g.rollback_at)
            harm_at.append(_first(_path(settings, stage, g, _loses(g, loss), releases, days, draw).stops))
    harmful = np.concatenate(harm_at) if harm_at else None
    worst = max(bad, key=lambda m: float(bad[m].mean())) if bad else ""
    waits = {metric: float(_first(p.passes).mean()) for metric, p in good.items()}
    forecast = StageForecast(
        stage=stage.name,
        good_leaves=float(left.mean()),
        good_stopped=float((stopped_at < NEVER).mean()) if good else 0.0,
        days=_days(left_at[left]),
        bad_leaves=float(bad[worst].mean()) if bad else 0.0,
        bad_metric=worst,
        harm_days=None if harmful is None else _days(harmful[harmful < NEVER]),
        harm_stopped=None if harmful is None else float((harmful < NEVER).mean()),
        slowest=max(waits, key=lambda m: waits[m]) if waits else "",
    )
    return _Stage(forecast, left, stopped_at < NEVER, bad)


def _first(happens: Bools) -> NDArray[np.int64]:
    """The day, from 1, on which something is first so, [release]; NEVER where it never is."""
    return np.where(happens.any(axis=0), happens.argmax(axis=0) + 1, NEVER).astype(np.int64)


def _days(at: NDArray[np.int64]) -> Days | None:
    return Days(*(float(q) for q in np.quantile(at, [0.1, 0.5, 0.9]))) if at.size else None


def _plan(guardrail: Guardrail) -> Planning:
    assert guardrail.planning is not None
    return guardrail.planning


def _good(guardrail: Guardrail) -> float:
    plan = _plan(guardrail)
    return plan.control if plan.candidate is None else plan.candidate


def _loses(guardrail: Guardrail, loss: float) -> float:
    """The candidate's mean at which it loses so much."""
    base = guardrail.level if guardrail.level is not None else _plan(guardrail).control
    return base + guardrail.sign * loss


def _path(
    settings: Settings,
    stage: Stage,
    guardrail: Guardrail,
    mean: float,
    releases: int,
    days: int,
    draw: np.random.Generator,
) -> _Path:
    """Draw a guardrail day by day for all releases at once, and look at its gate every evening."""
    sample = _sampler(guardrail, stage, mean, releases, draw)
    passes, stops = np.zeros((days, releases), bool), np.zeros((days, releases), bool)
    to_pass, to_stop = -math.log(settings.error_rates.promote), -math.log(settings.stop_level())
    for day in range(days):
        change = sample(day + 1)
        if change is None:
            continue
        passes[day] = _shown(guardrail, change, guardrail.margin, to_pass, less=True)
        stops[day] = _shown(guardrail, change, guardrail.margin, to_stop, less=False)
        if guardrail.rollback_at is not None:
            stops[day] |= _shown(guardrail, change, guardrail.rollback_at, to_stop, less=False)
    return _Path(passes, stops)


def _shown(guardrail: Guardrail, change: OneMean | Arms, loss: float, threshold: float, *, less: bool) -> Bools:
    """Whether a loss below (``less``) or above this is shown, [release]."""
    if (guardrail.better == "lower") == less:
        return change.less_than(guardrail.sign * loss, threshold)
    return change.more_than(guardrail.sign * loss, threshold)


Sampler = Callable[[int], OneMean | Arms | None]


def _sampler(guardrail: Guardrail, stage: Stage, mean: float, releases: int, draw: np.random.Generator) -> Sampler:
    """What is known of a guardrail by the evening of each day, counted from 1; to be asked day after day."""
    plan = _plan(guardrail)
    if guardrail.compare == "level" or stage.share == 0:
        # Candidate alone, or pairs: every unit of the day counts.
        rate = plan.per_day
        if guardrail.compare == "level":
            assert guardrail.level is not None
            return _one(guardrail, mean, guardrail.level, rate, releases, draw)
        return _pairs(guardrail, mean, rate, releases, draw)
    first = _series(guardrail, mean, plan.per_day * stage.share, releases, draw)
    second = _series(guardrail, plan.control, plan.per_day * (1 - stage.share), releases, draw)
    low, high = guardrail.limits
    scale = high - low if math.isfinite(low) else 1.0

    def look(day: int) -> Arms | None:
        one, two = first(day), second(day)
        if one is None or two is None:
            return None
        return Arms(one, two, one, two, scale)

    return look


def _one(
    guardrail: Guardrail, mean: float, level: float, rate: float, releases: int, draw: np.random.Generator
) -> Sampler:
    series = _series(guardrail, mean, rate, releases, draw)
    low, high = guardrail.limits
    scale, centre = (high - low, (level - low) / (high - low)) if math.isfinite(low) else (1.0, level)

    def look(day: int) -> OneMean | None:
        arm = series(day)
        return None if arm is None else OneMean(arm, arm.mirrored(), centre, scale)

    return look


def _pairs(guardrail: Guardrail, mean: float, rate: float, releases: int, draw: np.random.Generator) -> Sampler:
    """Differences of two independent values of one unit; pairs that agree more would need fewer units."""
    plan = _plan(guardrail)
    if guardrail.kind == "continuous":
        shifted = _gaussian_series(mean - plan.control, _spread(guardrail) * math.sqrt(2), rate, releases, draw)

        def look(day: int) -> OneMean | None:
            arm = shifted(day)
            return None if arm is None else OneMean(arm, arm.mirrored(), 0.0, 1.0)

        return look
    one, p = _levels(guardrail, mean)
    two, q = _levels(guardrail, plan.control)
    low, high = guardrail.limits
    levels, chance = _merged((one[:, None] - two[None, :] + 1).ravel() / 2, np.outer(p, q).ravel())
    counts = _count_series(levels, chance, rate, releases, draw)

    def look_bounded(day: int) -> OneMean | None:
        arm = counts(day)
        return None if arm is None else OneMean(arm, arm.mirrored(), 0.5, 2 * (high - low))

    return look_bounded


def _merged(levels: Floats, chance: Floats) -> tuple[Floats, Floats]:
    unique, where = np.unique(np.round(levels, 9), return_inverse=True)
    return unique, np.bincount(where.ravel(), weights=chance).astype(np.float64)


def _series(
    guardrail: Guardrail, mean: float, rate: float, releases: int, draw: np.random.Generator
) -> Callable[[int], Arm | None]:
    if guardrail.kind == "continuous":
        return _gaussian_series(mean, _spread(guardrail), rate, releases, draw)
    levels, chance = _levels(guardrail, mean)
    return _count_series(levels, chance, rate, releases, draw)


def _count_series(
    levels: Floats, chance: Floats, rate: float, releases: int, draw: np.random.Generator
) -> Callable[[int], Bounded | None]:
    seen = np.zeros((releases, levels.size))
    chance = chance / chance.sum()

    def look(day: int) -> Bounded | None:
        new = round(rate * day) - round(rate * (day - 1))
        if new:
            seen[:] += draw.multinomial(new, chance, size=releases)
        return Bounded(levels, seen.copy()) if seen[0].sum() else None

    return look


def _gaussian_series(
    mean: float, spread: float, rate: float, releases: int, draw: np.random.Generator
) -> Callable[[int], Gaussian | None]:
    total, squares, n = np.zeros(releases), np.zeros(releases), 0

    def look(day: int) -> Gaussian | None:
        nonlocal n
        new = round(rate * day) - round(rate * (day - 1))
        if new:
            # Sum and scatter of normal values are independent: a normal and a chi-squared one.
            sums = draw.normal(0, math.sqrt(new), releases)
            scatter = draw.chisquare(new - 1, releases) if new > 1 else np.zeros(releases)
            total[:] += sums
            squares[:] += scatter + sums**2 / new
            n += new
        if n < FEWEST:
            return None
        centred = np.maximum(squares - total**2 / n, 1e-12) / (n - 1)
        return Gaussian(np.full(releases, float(n)), mean + spread * total / n, spread * np.sqrt(centred))

    return look


def _spread(guardrail: Guardrail) -> float:
    spread = _plan(guardrail).spread
    if spread is None:
        raise UsageError(
            f"the planning of {guardrail.metric} has no spread; the standard deviation from unit to unit is needed for "
            f"a {guardrail.kind} metric."
        )
    return spread


def _levels(guardrail: Guardrail, mean: float) -> tuple[Floats, Floats]:
    """Values in [0, 1] and their chances, with the mean given and about the spread planned."""
    low, high = guardrail.limits
    m = (mean - low) / (high - low)
    if not 0 < m < 1:
        raise UsageError(
            f"the planning of {guardrail.metric} leads to a mean of {mean:g}; between {low:g} and {high:g} is "
            f"accepted. "
            "Mend control, candidate or margin."
        )
    if guardrail.kind == "binary":
        return np.array([0.0, 1.0]), np.array([1 - m, m])
    variance = min((_spread(guardrail) / (high - low)) ** 2, 0.98 * m * (1 - m))
    size = m * (1 - m) / variance - 1
    shape = stats.beta(m * size, (1 - m) * size)
    edges = shape.ppf(np.linspace(0, 1, LEVELS + 1))
    # Mean of a beta within a slice: that of the beta with one more in its first parameter, times m.
    within = np.diff(stats.beta(m * size + 1, (1 - m) * size).cdf(edges)) * m * LEVELS
    return np.clip(within, 0, 1), np.full(LEVELS, 1 / LEVELS)
