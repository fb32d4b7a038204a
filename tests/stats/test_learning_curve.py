"""The curve on learners whose curve is known, and the one doubling that it goes beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from safetyvalve.errors import DataError, UsageError
from safetyvalve.stats.learning_curve import (
    Curve,
    extrapolate,
    learn_linear,
    learning_curve,
    needed_comparisons,
    nested_sizes,
)

N = 1600


def splits(groups: np.ndarray, draws: int, share: float = 0.25, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    names = np.unique(groups)
    return np.array([np.isin(groups, generator.permutation(names)[: int(share * names.size)]) for _ in range(draws)])


def known(size: float) -> float:
    """Accuracy of a learner that has seen so many."""
    return 0.85 - 1.5 * size**-0.5


def curve_of(learner_accuracy: object = known, *, draws: int = 8, seed: int = 0) -> Curve:
    """A learner that is right on comparison i exactly if a fixed uniform number of i is below its accuracy."""
    luck = np.random.default_rng(seed).random(N)
    groups = np.repeat(np.arange(N // 4), 4)
    return learning_curve(
        lambda seen, asked: learner_accuracy(len(seen)) - luck[asked],  # type: ignore[operator]
        groups.tolist(),
        splits(groups, draws),
    )


def test_a_known_curve_is_measured() -> None:
    curve = curve_of()
    assert [p.comparisons for p in curve.points] == [75, 150, 300, 600, 1200][-len(curve.points) :]
    for point in curve.points:
        assert point.accuracy.low < known(point.comparisons) < point.accuracy.high
        assert 0.8 * N / 4 < point.accuracy.n <= N / 4  # conversations held out at least once in 8 draws of a quarter
        assert len(point.draws) == 8
        assert np.std(point.draws, ddof=1) == pytest.approx(point.spread)
    for gain, (before, after) in zip(curve.gains, zip(curve.points, curve.points[1:], strict=False), strict=True):
        assert gain.estimate == pytest.approx(after.accuracy.estimate - before.accuracy.estimate)
        assert gain.low < known(after.comparisons) - known(before.comparisons) < gain.high


def test_the_next_doubling_is_within_its_interval() -> None:
    curve = curve_of()
    ahead = extrapolate(curve, 2 * curve.largest)
    assert ahead.accuracy.low < known(2 * curve.largest) < ahead.accuracy.high
    assert ahead.gain.estimate == pytest.approx(ahead.accuracy.estimate - curve.points[-1].accuracy.estimate)
    # Held against what is known: the last point from the others.
    back = extrapolate(curve, curve.largest, measured=len(curve.points) - 1)
    assert back.accuracy.low < curve.points[-1].accuracy.estimate < back.accuracy.high


def test_a_flat_curve_stays_flat() -> None:
    curve = curve_of(lambda size: 0.6)
    ahead = extrapolate(curve, 2 * curve.largest)
    assert ahead.accuracy.estimate == pytest.approx(curve.points[-1].accuracy.estimate)
    assert ahead.gain.low == pytest.approx(0, abs=1e-9)


def test_nothing_beyond_the_next_doubling() -> None:
    curve = curve_of()
    for factor in (2.1, 3, 10, 1000):
        with pytest.raises(UsageError, match="beyond the next doubling nothing is claimed"):
            extrapolate(curve, round(factor * curve.largest))
    with pytest.raises(UsageError, match=f"measured up to {curve.largest}, and {curve.largest} to"):
        extrapolate(curve, curve.largest - 1)
    # Nor by leaving out the last point: the limit moves with what is used.
    with pytest.raises(UsageError, match="beyond the next doubling"):
        extrapolate(curve, 2 * curve.largest, measured=len(curve.points) - 1)
    with pytest.raises(UsageError, match="measured is 2; 3 to"):
        extrapolate(curve, curve.largest, measured=2)


def test_subsets_are_nested_and_groups_whole() -> None:
    groups = np.repeat(np.arange(100), 4)
    seen: list[set[int]] = []
    asked: list[set[int]] = []

    def learner(known: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        seen.append(set(known.tolist()))
        asked.append(set(unseen.tolist()))
        return np.ones(unseen.size)

    curve = learning_curve(learner, groups.tolist(), splits(groups, 2))
    n = len(curve.points)
    for draw in (0, 1):
        for smaller, larger in zip(seen[draw * n : (draw + 1) * n], seen[draw * n + 1 : (draw + 1) * n], strict=False):
            assert smaller < larger
    for left, right in zip(seen, asked, strict=True):
        assert not {groups[i] for i in left} & {groups[i] for i in right}
    assert seen[0] != seen[n]


def test_the_linear_learner_against_more_data() -> None:
    """A logistic world: what twice the data really gives lies in the interval, and more data helps."""
    generator = np.random.default_rng(3)
    weights = 0.5 * generator.normal(size=20)

    def draw(n: int) -> np.ndarray:
        x = generator.normal(size=(n, 20))
        return np.where(generator.random(n) < 1 / (1 + np.exp(-x @ weights)), 1, -1)[:, None] * x

    d, groups = draw(600), np.repeat(np.arange(300), 2)
    curve = learning_curve(learn_linear(d, groups.tolist()), groups.tolist(), splits(groups, 4))
    assert curve.points[-1].accuracy.estimate > curve.points[0].accuracy.estimate + 0.03
    more = 2 * curve.largest
    everything = np.concatenate([draw(more), draw(20_000)])
    truth = learn_linear(everything, list(range(len(everything))))(np.arange(more), np.arange(more, len(everything)))
    ahead = extrapolate(curve, more)
    assert ahead.accuracy.low < (truth > 0).mean() < ahead.accuracy.high
    assert ahead.accuracy.high - ahead.accuracy.low < 0.2


def test_a_feature_without_spread_does_no_harm() -> None:
    d = np.concatenate([np.random.default_rng(0).normal(size=(80, 1)) + 1, np.zeros((80, 1))], axis=1)
    margins = learn_linear(d, list(range(80)))(np.arange(60), np.arange(60, 80))
    assert np.isfinite(margins).all()
    assert (margins > 0).mean() > 0.6


def test_too_few() -> None:
    assert needed_comparisons(0.25) == 214
    assert nested_sizes(160) == (40, 80, 160)
    with pytest.raises(DataError, match="159 comparisons to learn from; a learning curve needs 160"):
        nested_sizes(159)
    groups = np.repeat(np.arange(39), 10)
    with pytest.raises(DataError, match="39 conversations"):
        learning_curve(lambda a, b: np.ones(b.size), groups.tolist(), splits(groups, 2))


def test_refusals() -> None:
    groups = np.repeat(np.arange(100), 4)
    half = np.zeros((2, 400), dtype=bool)
    half[:, :2] = True
    with pytest.raises(UsageError, match="draw 0 holds out a part of a group"):
        learning_curve(lambda a, b: np.ones(b.size), groups.tolist(), half)
    with pytest.raises(UsageError, match="there is 1 draw"):
        learning_curve(lambda a, b: np.ones(b.size), groups.tolist(), splits(groups, 1))
    with pytest.raises(UsageError, match="replicates is 10"):
        extrapolate(curve_of(draws=2), 1200, replicates=10)
