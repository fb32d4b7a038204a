"""The stated generators: random problems for the duality check, and the settings of overoptimization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.testbed.problem import (
    Problem,
    bradley_terry,
    chosen_baseline,
    independent_pairs,
    sample_wins,
)

__all__ = ["SETTINGS", "Case", "Kind", "Setting", "check_settings", "draw_case", "draw_setting"]

Kind = Literal["box", "sparse base", "unconstrained", "linear", "stress"]
Setting = Literal["uniform reference", "data reference", "long tail"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)


class Case(NamedTuple):
    """One random problem for the duality check: a batch of one set.

    bounds: the box on rewards (tabular) or weights (linear); None is unconstrained.
    features: (1, prompt, action, parameter) of the linear class, or None.
    """

    kind: Kind
    problem: Problem
    wins: Float[Tensor, "set prompt action action"]
    base: Float[Tensor, "set prompt action"]
    beta: float
    eta: float
    bounds: tuple[float, float] | None
    features: Tensor | None


def draw_case(kind: Kind, rng: np.random.Generator) -> Case:
    """One random problem.

    1 to 6 prompts, 2 to 10 actions, 5 to 400 comparisons, beta log-uniform in [0.05, 2] and eta in [0.01, 3].
    Dirichlet references and serving laws. Each action is left out of the data with probability 0.3 (two stay), and
    each prompt but the first with probability 0.2, so that there are actions and prompts without data. The box is
    [0, R], R in {1, 4, 10}.

    box: the baseline is the law of the chosen responses. sparse base: a random one that leaves out actions.
    unconstrained: no box, a baseline with mass everywhere. linear: 2 to 5 weights in [-3, 3]. stress: beta 0.001
    and R 50.
    """
    prompts, actions = int(rng.integers(1, 7)), int(rng.integers(2, 11))
    n = int(rng.choice([5, 20, 100, 400]))
    beta, eta = float(np.exp(rng.uniform(np.log(0.05), np.log(2)))), float(np.exp(rng.uniform(np.log(0.01), np.log(3))))
    width = float(rng.choice([1.0, 4.0, 10.0]))
    if kind == "stress":
        beta, width = 1e-3, 50.0
    ref = _normal(rng.dirichlet(np.ones(actions), (1, prompts)) + 1e-4)
    reward, features = torch.as_tensor(rng.uniform(0, width, (1, prompts, actions))), None
    bounds: tuple[float, float] | None = (0.0, width)
    if kind == "linear":
        features = torch.as_tensor(rng.normal(size=(1, prompts, actions, int(rng.integers(2, 6)))))
        weights = torch.as_tensor(rng.uniform(-2, 2, features.shape[-1]))
        reward, bounds = features @ weights, (-3.0, 3.0)
    d0 = torch.as_tensor(rng.dirichlet(np.full(prompts, 3.0), 1))
    asked = d0 * torch.as_tensor(rng.random(prompts) > 0.2)
    asked[:, 0] = d0[:, 0]
    shown = rng.random((1, prompts, actions)) > 0.3
    shown[..., :2] = True
    law = independent_pairs(asked / asked.sum(), ref * torch.as_tensor(shown))
    problem = Problem(d0, ref, reward, law, bradley_terry(reward))
    wins = sample_wins(problem, n, rng)
    base = chosen_baseline(wins, ref)
    if kind == "sparse base":
        kept = rng.random((1, prompts, actions)) > 0.5
        kept[..., 0] = True
        base = _normal(rng.dirichlet(np.ones(actions), (1, prompts)) * kept + 1e-3 * kept)
    if kind == "unconstrained":
        bounds, base = None, 0.8 * base + 0.2 * ref
    return Case(kind, problem, wins, base, beta, eta, bounds, features)


def check_settings(names: Sequence[str]) -> tuple[Setting, ...]:
    """The settings of these names.

    Raises:
        UsageError: an unknown name.
    """
    for name in names:
        if name not in SETTINGS:
            raise UsageError(f"setting is '{name}'; accepted: {', '.join(SETTINGS)}.")
    return tuple(known for known in SETTINGS if known in names)


def draw_setting(
    name: Setting, sets: int, rng: np.random.Generator, *, covered: int = 4
) -> tuple[Problem, Float[Tensor, "set prompt action"]]:
    """Bandits with partial coverage, a fresh one a set, and the uncovered baseline.

    5 prompts, served and asked uniformly; 4 covered actions with true rewards uniform in [1.5, 3.5] and tail
    actions with rewards uniform in [0, 2]: never the best. Comparisons are Bradley-Terry.

    uniform reference: 4 tail actions, each 3% of the responses compared; the reference is uniform, so it likes
    the tail more than the data do. data reference: the same, but the reference is the law of the data. long tail:
    25 tail actions that share 30% of the responses; the reference is the law of the data.

    Returns:
        the problem, and the baseline that is uniform on the tail, which the data hardly cover.

    Raises:
        UsageError: an unknown name.
    """
    check_settings([name])
    tail, mass = (25, 0.30) if name == "long tail" else (4, 0.12)
    prompts, actions = 5, covered + tail
    reward = torch.as_tensor(
        np.concatenate(
            [rng.uniform(1.5, 3.5, (sets, prompts, covered)), rng.uniform(0, 2, (sets, prompts, tail))], axis=-1
        )
    )
    law = torch.full((sets, prompts, actions), (1 - mass) / covered, dtype=torch.float64)
    law[..., covered:] = mass / tail
    d0 = torch.full((sets, prompts), 1 / prompts, dtype=torch.float64)
    ref = torch.full_like(law, 1 / actions) if name == "uniform reference" else law
    uncovered = torch.zeros_like(law)
    uncovered[..., covered:] = 1 / tail
    return Problem(d0, ref, reward, independent_pairs(d0, law), bradley_terry(reward)), uncovered


def _normal(table: np.ndarray) -> Tensor:
    return torch.as_tensor(table / table.sum(-1, keepdims=True))
