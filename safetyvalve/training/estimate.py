"""What a run will need, measured on its own first steps: ``safetyvalve train --dry-run``.

The run itself is started, with its own data order, on a scratch folder; it is stopped after a few steps, and the
reference pass covers a sample. What was timed is then scaled by tokens to the whole run. So whatever a run does is in
the estimate, and no constant of any machine is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import psutil
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import PreferenceExample, TokenizedExample
from safetyvalve.errors import RunInterrupted, UsageError
from safetyvalve.training.baseline import SftPool, SftTrees
from safetyvalve.training.choosing import engine_of, probes_of, visited
from safetyvalve.training.first import FirstMeasures
from safetyvalve.training.forward import Forward
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.memory import (
    GIB,
    available_bytes,
    check_weights_fit,
    hand_back,
    peak_resident_bytes,
    reset_peak,
    standing_bytes,
    weight_bytes,
)
from safetyvalve.training.objective import ReferencedExample
from safetyvalve.training.observation import Observation
from safetyvalve.training.optimization import Checkpointing, FineTuning, Optimization
from safetyvalve.training.run import train_policy
from safetyvalve.training.stopwatch import SampledReference, Stopwatch, batch_tokens
from safetyvalve.trees import EngineChoice, ReferenceCache, Tree, tokens_computed
from safetyvalve.trees.copies import copied_bytes
from safetyvalve.trees.decoder import own_layers

__all__ = ["Estimate", "estimate_run", "evaluations", "kept_bytes", "predicted_peak"]

STEPS = 4
"""Steps that are run; the first fills the optimizer's state and says nothing of later ones."""
SAMPLES = 64
"""Answers that the dry run samples; a run's more take proportionally longer."""
HELD_OUT = 16
"""Held-out examples that are measured; the rest is scaled by tokens."""
GRADIENT_EXAMPLES = HeldOutMeter._field_defaults["grad_examples"]


@dataclass(frozen=True)
class Estimate:
    """What a run will take. Writing checkpoints and the trained model is not in it."""

    peak_bytes: int
    """Most resident memory of the process, of the host where training is on a GPU."""
    available_bytes: int
    engine: EngineChoice
    seconds_per_step: float
    tokens_per_step: float
    """Tokens computed, mean over the run's steps."""
    seconds: dict[str, float]
    """Of each part of the run, in order."""
    first_batch: list[TokenizedExample]
    """What the first optimizer step trains on."""

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    def lines(self) -> list[str]:
        """For a person to read."""
        parts = ", ".join(f"{name} {_duration(value)}" for name, value in self.seconds.items())
        return [
            f"memory: {self.peak_bytes / GIB:.2f} GiB resident at the peak, of {self.available_bytes / GIB:.1f} GiB "
            "that can be had",
            f"a step: {self.seconds_per_step:.2g} s ({self.tokens_per_step:,.0f} tokens computed)",
            f"the run: {_duration(self.total_seconds)} ({parts}), without writing checkpoints and the model",
        ]


def evaluations(steps: int, every: int) -> int:
    """How often a run is measured: before the first step, every ``every`` steps and after the last."""
    return 1 + math.ceil(steps / every)


def predicted_peak(now: int, standing: int, weights: int, per_token: float, tokens: int) -> int:
    """Resident bytes at the height of the heaviest micro-batch.

    Args:
        now: resident bytes with the model loaded.
        standing: bytes held between micro-batches, see :func:`safetyvalve.training.memory.standing_bytes`.
        weights: bytes of the loaded model, which ``now`` and ``standing`` both have.
        per_token: bytes kept for the backward pass, a token.
        tokens: of the heaviest micro-batch.
    """
    return round(now + standing - weights + per_token * tokens)


def estimate_run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[TokenizedExample],
    held_out: Sequence[tuple[PreferenceExample, TokenizedExample]],
    *,
    optimization: Optimization,
    observation: Observation,
    reference_cache: ReferenceCache,
    sft: SftTrees | None = None,
    fine_tuning: FineTuning | None = None,
    first: FirstMeasures | None = None,
    started: float | None = None,
    **others: Any,
) -> Estimate:
    """Measure the first steps of the run that these arguments describe.

    Args:
        model, tokenizer, train, held_out, optimization, observation, reference_cache, sft, fine_tuning, first, others:
            as :func:`safetyvalve.training.train_policy`, with a :class:`safetyvalve.training.stopwatch.Scratch` for the
            folder. The model is trained for a few steps and of no use afterwards. Trackers, checkpoints, and
            what selects weights or ends a run early are left out.
        started: ``time.perf_counter()`` when the program began to load, which is part of the run; None for now.

    Raises:
        UsageError: the run does not fit into the memory that can be had; says what would.
        SafetyValveError: what the run itself would raise.
    """
    begun = time.perf_counter()
    reset_peak()
    own_reference = not (fine_tuning or FineTuning()).adapts
    if own_reference:  # adapters are not there yet; the run itself checks with them
        check_weights_fit(model)
    steps = min(STEPS, optimization.steps)
    shortened = replace(
        observation,
        every=steps,
        held_out_examples=min(HELD_OUT, observation.held_out_examples),
        prompts=min(max(1, SAMPLES // observation.samples_per_prompt), observation.prompts),
    )
    trees = [Tree(t.prompt_ids, t.response_ids) for t in visited(train, optimization)]
    joining = visited(sft.train, optimization, a_step=sft.per_step) if sft is not None else []
    whole, some = (_measured(held_out, sft, o.held_out_examples) for o in (observation, shortened))
    measured, part = ([Tree(t.prompt_ids, t.response_ids) for t in examples] for examples in (whole, some))
    passed = [*trees, *(Tree(t.prompt_ids, t.response_ids) for t in joining), *measured]
    ask = time.perf_counter()
    layers = nullcontext if own_reference else own_layers  # an adapted policy's are the model's own, as in the run
    with layers():
        found = reference_cache.compared(model, passed, autocast=optimization.autocast)
        asking = time.perf_counter() - ask
        choice = engine_of(model, trees, optimization, found)
    forward = Forward.of(choice.engine, optimization)
    standing = standing_bytes(model) if own_reference else weight_bytes(model)
    _check_activations_fit(model, trees, forward, optimization.prompts_per_step, standing=standing)
    # The run does not look first: what that took is not part of its peak.
    hand_back()
    reset_peak()
    ask = time.perf_counter()
    with layers():
        hit = reference_cache.holds(model, passed, engine=choice.engine, autocast=optimization.autocast)
    asking += time.perf_counter() - ask
    known = (False, False)
    if first is not None:
        first = first.of(model, tokenizer, fine_tuning or FineTuning(), forward, seed=optimization.seed)
        observed = others.get("observed")
        probes = probes_of(held_out, observation.prompts) if observed is None else observed[: observation.prompts]
        known = first.holds(others["objective"], whole, probes, observation, seed=optimization.seed)
    watch, reference = Stopwatch(forward, steps, _pool(joining, sft, optimization.seed)), SampledReference(found)
    launched = time.perf_counter()
    try:
        train_policy(
            model,
            tokenizer,
            train,
            held_out,
            **others
            | {
                "optimization": replace(optimization, engine=choice.engine),
                "observation": shortened,
                "reference_cache": reference,
                "sft": sft,
                "fine_tuning": fine_tuning,
                "first": None,
                "checkpointing": Checkpointing(0),
                "trackers": None,
                "valve": None,
                "progress": watch,
            },
        )
    except RunInterrupted:
        if len(watch.taken) < steps:  # by a person, and not by the stopwatch
            raise RunInterrupted("the dry run was stopped; it has nothing to resume.") from None
    setup = time.perf_counter() - launched - reference.seconds - watch.seconds
    tokens = mean(batch_tokens(batch, forward) for batch in watch.batches)
    step = watch.step_seconds(tokens)
    pass_tokens = sum(tokens_computed(t, choice.engine) for t in passed)
    at_first, later = (
        _whole_evaluation(
            seconds,
            reference.per_token,
            examples=[[tokens_computed(t, choice.engine) for t in trees] for trees in (part, measured)],
            prompts=[min(o.prompts, len({t.prompt_ids for _, t in held_out})) for o in (shortened, observation)],
        )
        for seconds in watch.evaluations
    )
    return Estimate(
        peak_bytes=peak_resident_bytes(),
        available_bytes=available_bytes(),
        engine=choice,
        seconds_per_step=step,
        tokens_per_step=tokens,
        seconds={
            "start": begun - (begun if started is None else started) + setup,
            "reference pass": asking + (0.0 if hit else reference.per_token * pass_tokens),
            "evaluations": sum(s for s, kept in zip(at_first, known, strict=True) if not kept)
            + sum(later) * (evaluations(optimization.steps, observation.every) - 1),
            "steps": watch.steps_seconds(),
        },
        first_batch=[e.tokens for e in watch.batches[0]],
    )


def _pool(joining: Sequence[TokenizedExample], sft: SftTrees | None, seed: int) -> SftPool | None:
    """What joins each step, without reference log-probabilities, which its size does not need."""
    if sft is None:
        return None
    return SftPool([ReferencedExample(t, torch.zeros(0)) for t in joining], per_step=sft.per_step, seed=seed)


def _measured(
    held_out: Sequence[tuple[PreferenceExample, TokenizedExample]], sft: SftTrees | None, count: int
) -> list[TokenizedExample]:
    return [t for _, t in held_out[:count]] + (list(sft.held_out[:count]) if sft is not None else [])


def _whole_evaluation(
    seconds: float, per_token: float, *, examples: list[list[int]], prompts: list[int]
) -> tuple[float, float]:
    """From the time of an evaluation on a part to one on the whole: of the held-out examples, and of the samples.

    Args:
        seconds: of the part.
        per_token: seconds of a forward, a token.
        examples: tokens of each held-out example, of the part and of the whole.
        prompts: prompts that are sampled, of the part and of the whole.
    """
    part, whole = (per_token * sum(sizes) for sizes in examples)
    # Gradients of both terms on the first few: a forward each, and a backward pass of twice its work.
    gradients = 6 * per_token * sum(examples[0][:GRADIENT_EXAMPLES])
    sampling = max(0.0, seconds - part - gradients)
    share = prompts[1] / prompts[0] if prompts[0] else 1.0
    return seconds - sampling + whole - part, sampling * share


def _check_activations_fit(
    model: PreTrainedModel, trees: Sequence[Tree], forward: Forward, prompts_per_step: int, *, standing: int
) -> None:
    """Refuse before the machine does: what the backward pass keeps for two trees, scaled to the largest micro-batch."""
    if torch.cuda.is_available():
        return
    sizes = sorted(tokens_computed(t, forward.engine) for t in trees)
    per_token, constant = _kept_by_token(model, trees, forward)
    heaviest = max(sizes[-1], min(forward.token_budget, sum(sizes[-prompts_per_step:])))
    now, available = _resident(), available_bytes()
    fixed = predicted_peak(now, standing + constant, weight_bytes(model), 0, 0)
    needed = predicted_peak(now, standing + constant, weight_bytes(model), per_token, heaviest)
    if needed <= available:
        return
    fitting = int((available - fixed) / per_token)
    remedy = (
        f"Set --memory low, or --token-budget {fitting} or less"
        if sizes[-1] <= fitting < heaviest
        else f"The longest example alone has {sizes[-1]} tokens: set --memory low, lower --max-length with --on-long "
        "drop, take a smaller --model"
    )
    raise UsageError(
        f"the run may need {needed / GIB:.1f} GiB ({fixed / GIB:.1f} for weights, reference, gradients and "
        f"optimizer, the rest for a micro-batch of {heaviest} tokens), and {available / GIB:.1f} GiB can be had on "
        f"this machine. {remedy}, or take a machine with more memory."
    )


def _kept_by_token(model: PreTrainedModel, trees: Sequence[Tree], forward: Forward) -> tuple[float, int]:
    """Bytes kept a token, and apart from tokens (under autocast the weights' copies in the narrower type)."""
    order = sorted(trees, key=lambda t: tokens_computed(t, forward.engine))
    short, middle = order[0], order[len(order) // 2]
    small, large = kept_bytes(model, short, forward), kept_bytes(model, middle, forward)
    more = tokens_computed(middle, forward.engine) - tokens_computed(short, forward.engine)
    if more == 0:
        return large / tokens_computed(middle, forward.engine), 0
    per_token = (large - small) / more
    return per_token, max(0, round(large - per_token * tokens_computed(middle, forward.engine)))


def kept_bytes(model: PreTrainedModel, tree: Tree, forward: Forward) -> int:
    """Bytes that the backward pass of one tree keeps from its forward, with copies of the weights and without them."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> None:
        """Keeps the memory and not the tensor: one that is kept by what made it would keep the whole graph for ever."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage

    with forward.attention(model), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        sums = forward.sums(model, [tree])
        copies = copied_bytes()
    del sums
    return sum(storage.nbytes() for storage in kept.values()) + copies


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
