"""How often the extrapolation of ``safetyvalve plan`` holds, on learners whose curve is known.

python benchmarks/plan_extrapolation.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from safetyvalve.stats.learning_curve import extrapolate, learning_curve

WORLDS: dict[str, Callable[[float], float]] = {
    "log n": lambda n: 0.45 + 0.025 * np.log(n),
    "n^-1/4": lambda n: 0.8 - 0.7 * n**-0.25,
    "n^-1/2": lambda n: 0.8 - 1.3 * n**-0.5,
    "n^-1": lambda n: 0.75 - 8 / n,
    "flat": lambda n: 0.6,
    "exponential": lambda n: 0.75 - 0.2 * np.exp(-n / 400),
}
N, DRAWS, REPEATS = 1600, 8, 25


def trial(accuracy: Callable[[float], float], seed: int) -> tuple[float, float, float]:
    """Error of the estimate, 1 where the interval holds the truth, and its width; of a doubling from 1,200 on."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(N // 2), 2)
    luck = generator.random(N)

    def learner(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
        # Half of the outcomes are drawn afresh at every fit, as another training set would change them.
        fresh = np.random.default_rng(int(known.sum()))
        uniform = np.where(fresh.random(asked.size) < 0.5, luck[asked], fresh.random(asked.size))
        return accuracy(float(known.size)) - uniform

    masks = np.array([np.isin(groups, generator.permutation(N // 2)[: N // 8]) for _ in range(DRAWS)])
    curve = learning_curve(learner, groups.tolist(), masks)
    ahead = extrapolate(curve, 2 * curve.largest, replicates=200).accuracy
    truth = accuracy(2.0 * curve.largest)
    return ahead.estimate - truth, float(ahead.low <= truth <= ahead.high), ahead.high - ahead.low


if __name__ == "__main__":
    for name, accuracy in WORLDS.items():
        error, held, width = np.mean([trial(accuracy, seed) for seed in range(REPEATS)], axis=0)
        print(f"{name:12} held {held:.0%}, bias {100 * error:+.2f} points, width {100 * width:.1f} points")
