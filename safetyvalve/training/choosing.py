"""Which examples a run uses for what: to train on, to compare engines, to sample, to steer eta."""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedModel

from safetyvalve.data import PreferenceExample, TokenizedExample
from safetyvalve.errors import UsageError
from safetyvalve.training.baseline import SftTrees
from safetyvalve.training.objective import Objective
from safetyvalve.training.observation import Observation
from safetyvalve.training.optimization import Optimization
from safetyvalve.training.progress import Progress
from safetyvalve.training.sampling import Probe
from safetyvalve.trees import EngineChoice, Tree, choose_engine

__all__ = ["control_examples", "engine_of", "probes_of", "telling", "visited"]

CONTROL = 64
"""Held-out examples that steer eta, at most."""


def visited(train: Sequence[TokenizedExample], o: Optimization, *, a_step: int | None = None) -> list[TokenizedExample]:
    """The examples that the steps will reach: a seeded choice where they do not reach all.

    The reference pass covers these only; on a large file it would otherwise take longer than a short run.

    Args:
        train: all there are.
        o: gives the steps and the seed.
        a_step: examples of a step; None takes the prompts of a step.
    """
    needed = o.steps * (a_step or o.prompts_per_step)
    return list(train) if needed >= len(train) else random.Random(o.seed).sample(list(train), needed)


def telling(trees: Sequence[Tree]) -> list[Tree]:
    """Trees to compare the engines on: the shortest, the median and the longest, past any window that matters."""
    order = sorted(trees, key=lambda t: t.n_tokens)
    return [order[i] for i in sorted({0, len(order) // 2, len(order) - 1})]


def engine_of(model: PreTrainedModel, trees: Sequence[Tree], o: Optimization, found: str | None) -> EngineChoice:
    """The forward of a run.

    Args:
        model: the policy before it is trained.
        trees: what it is trained on.
        o: says what is wanted.
        found: what :meth:`ReferenceCache.compared` knows of an earlier run with these weights and data; None compares.
    """
    if found is not None and o.engine in ("auto", "tree"):
        return EngineChoice("tree", found)
    return choose_engine(model, telling(trees), wanted=o.engine)


def probes_of(held_out: Sequence[tuple[PreferenceExample, TokenizedExample]], count: int) -> list[Probe]:
    """The first ``count`` distinct prompts."""
    probes: dict[tuple[int, ...], Probe] = {}
    for example, tokens in held_out:
        if len(probes) == count:
            break
        probes.setdefault(tokens.prompt_ids, Probe.of(example, tokens))
    return list(probes.values())


def control_examples(
    held_out: Sequence[tuple[PreferenceExample, TokenizedExample]],
    sft: SftTrees | None,
    objective: Objective,
    observation: Observation,
    progress: Progress,
) -> list[TokenizedExample]:
    """Held-out examples that steer eta: if there are enough, others than those that are measured and reported.

    Raises:
        UsageError: there is none with a response of the baseline.
    """
    if objective.max_displacement is None:
        return []
    held = [t for _, t in held_out] if sft is None else list(sft.held_out)
    held = [t for t in held if t.baseline_law]
    if not held:
        raise UsageError(
            f"max_displacement is {objective.max_displacement} and no held-out example has a response of the baseline; "
            "eta is steered by such examples. Raise --held-out."
        )
    others = held[observation.held_out_examples :][:CONTROL]
    if len(others) < CONTROL // 4:
        others = held[:CONTROL]
        progress.line(
            f"max displacement: steered by {len(others)} held-out examples that are measured too; hold out "
            f"{observation.held_out_examples + CONTROL} or more to have them apart"
        )
    return others
