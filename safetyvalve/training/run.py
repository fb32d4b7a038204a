"""One training run from tokens to a run folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainingArguments,
    set_seed,
)

from safetyvalve.data import PreferenceExample, TokenizedExample
from safetyvalve.errors import DataError
from safetyvalve.lineage import BaseModel
from safetyvalve.training.adapters import split_policy
from safetyvalve.training.alarms import AlarmLog
from safetyvalve.training.baseline import SftPool, SftTrees
from safetyvalve.training.checkpoints import CheckpointCallback, StopRequest, last_checkpoint, step_of
from safetyvalve.training.choosing import control_examples, engine_of, probes_of, visited
from safetyvalve.training.evaluating import Evaluate
from safetyvalve.training.first import FirstMeasures
from safetyvalve.training.folder import RunFolder
from safetyvalve.training.forward import Forward
from safetyvalve.training.heldout import HeldOutMeter
from safetyvalve.training.memory import check_weights_fit
from safetyvalve.training.multiplier import DisplacementMultiplier
from safetyvalve.training.objective import Objective, ReferencedExample
from safetyvalve.training.observation import Observation, Valve
from safetyvalve.training.optimization import SCHEDULES, Checkpointing, FineTuning, Optimization
from safetyvalve.training.policy import Constraint, PolicyTrainer
from safetyvalve.training.profiling import SKIPPED, StepProfiler
from safetyvalve.training.progress import Progress
from safetyvalve.training.sampling import Probe, SampleMeter
from safetyvalve.training.saving import TrainedModel
from safetyvalve.training.scoring import Proxy, SampleScorer, Scorer
from safetyvalve.training.selection import Selection, says, select
from safetyvalve.training.trackers import RecordedArguments, Trackers
from safetyvalve.trees import EngineChoice, ReferenceCache, Tree
from safetyvalve.trees.decoder import own_layers

if TYPE_CHECKING:
    from safetyvalve.training.maximin import MaximinTrainer, Opponent

__all__ = [
    "TrainingResult",
    "return_to_checkpoint",
    "train_policy",
    "trainer_arguments",
]


class TrainingResult(NamedTuple):
    """Where the run is and how it went."""

    folder: Path
    engine: EngineChoice
    seconds: float


class _Examples(Dataset[ReferencedExample]):
    def __init__(self, examples: Sequence[ReferencedExample]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> ReferencedExample:
        return self.examples[index]


def train_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[TokenizedExample],
    held_out: Sequence[tuple[PreferenceExample, TokenizedExample]],
    *,
    folder: RunFolder,
    objective: Objective,
    optimization: Optimization,
    observation: Observation,
    reference_cache: ReferenceCache,
    sft: SftTrees | None = None,
    checkpointing: Checkpointing | None = None,
    trackers: Trackers | None = None,
    fine_tuning: FineTuning | None = None,
    valve: Valve | None = None,
    base: BaseModel | None = None,
    opponent: Opponent | None = None,
    resume: bool = False,
    scorer: Scorer | None = None,
    proxy: Proxy | None = None,
    held_out_member: Proxy | None = None,
    observed: Sequence[Probe] | None = None,
    first: FirstMeasures | None = None,
    progress: Progress | None = None,
    profiled: bool = False,
) -> TrainingResult:
    """Train ``model`` in place and leave the record and the trained model in ``folder``.

    Args:
        model: the reference policy, which becomes the trained one; fp32 parameters, or 4-bit ones for ``qlora``.
        tokenizer: its tokenizer.
        train: what is trained on.
        held_out: what is measured on; the first ``observation.prompts`` distinct prompts are sampled.
        folder: receives metrics.jsonl, samples/ and model/.
        objective, optimization, observation: settings.
        reference_cache: keeps the reference's log-probabilities between runs.
        sft: prompts of a separate SFT set, some of which join every step.
        checkpointing: how often a checkpoint is saved; None takes the default. Once model/ is there they are removed.
        trackers: where figures go besides the folder; None keeps them there.
        fine_tuning: which weights are trained and how they are saved; None trains all.
        valve: which weights become the model and what ends the run early; None takes the last and never does.
        base: where ``model`` comes from, for the record beside the trained one.
        opponent: the reward model that the policy plays against; None trains on the comparisons themselves.
        resume: go on from the last checkpoint in ``folder``, or from the start where there is none. On the CPU, with as
            many threads as before, the result is bitwise that of a run that was never stopped.
        scorer: independent score of samples, never used in training.
        proxy, held_out_member: reward models that score the samples too.
        observed: prompts that are sampled instead of held-out ones.
        first: keeps what is measured before the first step between runs; None measures it.
        progress: what a person sees; None says nothing.
        profiled: watch some steps and leave profile.json, see :mod:`safetyvalve.training.profiling`.

    Raises:
        EngineError: the engine asked for is not exact for this model.
        NonFiniteLossError: a loss that is not finite; the record up to there stays.
        DataError: nothing to train on.
        RunInterrupted: somebody asked to stop by SIGINT or SIGTERM; a checkpoint was saved.
        UsageError: weights, reference, gradients and optimizer alone exceed the memory of the machine.
        RunError: the disk is full; what was saved before is whole.
    """
    if not train:
        raise DataError("there are no examples to train on. Check the data and the size of the held-out part.")
    if len(train) < optimization.prompts_per_step:
        raise DataError(
            f"there are {len(train)} examples to train on, fewer than the {optimization.prompts_per_step} of one step. "
            "Lower --prompts-per-step or hold out fewer."
        )
    fine_tuning = fine_tuning or FineTuning()
    optimization = optimization.resolved(fine_tuning)
    train = visited(train, optimization)
    joining = visited(sft.train, optimization, a_step=sft.per_step) if sft is not None else []
    started = time.perf_counter()
    progress = progress or Progress(enabled=False)
    checkpoint = return_to_checkpoint(folder, progress) if resume else None
    resumed_after = (step_of(checkpoint) if checkpoint else -1) if resume else None
    set_seed(optimization.seed)
    if not getattr(model, "is_quantized", False):  # those were loaded where they stay
        model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    measured = [tokens for _, tokens in held_out[: observation.held_out_examples]]
    measured += sft.held_out[: observation.held_out_examples] if sft is not None else []
    control = control_examples(held_out, sft, objective, observation, progress)
    # Before there is an adapter: the cache's entry is that of the base's weights, whatever is trained from them.
    # An adapter leaves the layers to the model: policy and reference are equal at step 0 if both compute alike.
    with own_layers() if fine_tuning.adapts else nullcontext():
        referenced, choice = _with_reference(
            model, [*train, *joining, *measured, *control], len(train), optimization, reference_cache, progress
        )
    begin = len(train) + len(joining)
    pool = referenced[len(train) : begin]
    policies = split_policy(model, fine_tuning, seed=optimization.seed)
    check_weights_fit(policies.policy, own_reference=not fine_tuning.adapts)
    forward = Forward.of(choice.engine, optimization)
    meter = partial(
        SampleMeter,
        reference=policies.reference,
        reference_mode=policies.reference_mode,
        tokenizer=tokenizer,
        beta=objective.beta if any(t.comparisons for t in train) else None,
        n=observation.samples_per_prompt,
        max_new_tokens=observation.max_new_tokens,
        forward=forward,
        scorer=SampleScorer(
            independent=scorer,
            proxy=proxy,
            held_out_member=held_out_member,
            autocast=optimization.autocast,
            say=progress.line,
        ),
    )
    probes = probes_of(held_out, 2 * observation.prompts) if observed is None else list(observed)
    valve = valve or Valve()
    selection = Selection(folder) if valve.select == "independent" else None
    trackers = trackers or Trackers()
    game = None
    if opponent is not None:
        ids = [t.id for t in train], [e.id for e, _ in held_out[: observation.held_out_examples]]
        game = opponent.start(optimization, train=ids[0], held_out=ids[1], progress=progress)
    constraint = None
    if objective.max_displacement is not None:
        multiplier = DisplacementMultiplier(objective.max_displacement, start=objective.eta)
        if checkpoint:
            multiplier.load(checkpoint)
        constraint = Constraint(multiplier, referenced[begin + len(measured) :], optimization.prompts_per_step)
    with StopRequest(progress) as stop:
        if first is not None:
            first = first.of(policies.reference, tokenizer, fine_tuning, forward, seed=optimization.seed)
        evaluate = Evaluate(
            HeldOutMeter(referenced[begin : begin + len(measured)], objective, forward),
            meter(probes[: observation.prompts], seed=optimization.seed),
            folder,
            observation.every,
            progress,
            AlarmLog(folder, valve, progress),
            selection,
            stop,
            first,
        )
        if game is not None:
            evaluate.more = game.measure
        common: dict[str, Any] = {
            "args": trainer_arguments(folder.path, optimization, trackers),
            "train_dataset": _Examples(referenced[: len(train)]),
            "forward": forward,
            "callbacks": [
                # Before the first evaluation, which they are told of.
                *trackers.callbacks(folder.path, resumed_after=resumed_after),
                evaluate,
                progress.callback(),
                CheckpointCallback((checkpointing or Checkpointing()).every, stop),
            ],
        }
        trainer: PolicyTrainer | MaximinTrainer
        if game is not None:
            trainer = game.trainer(policies, tokenizer, objective=objective, **common)
        else:
            joined = SftPool(pool, per_step=sft.per_step, seed=optimization.seed) if sft is not None else None
            trainer = PolicyTrainer(
                model=policies.policy, objective=objective, sft_pool=joined, constraint=constraint, **common
            )
        for callback in (ProgressCallback, PrinterCallback):  # ours says the same in one line
            trainer.remove_callback(callback)
        evaluate.trainer = trainer
        if profiled and isinstance(trainer, PolicyTrainer):
            counted = choice.engine == "tree" and not fine_tuning.adapts
            trainer.profiler = StepProfiler(forward, trainer.freed, counted=counted)
            trainer.add_callback(trainer.profiler)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if isinstance(trainer, PolicyTrainer) and trainer.profiler is not None:
            _tell(trainer.profiler, folder, progress)
        if game is not None:
            folder.save_model(game.saved(), name="reward")
        if selection is not None:
            selected = select(selection, policies.policy, meter, probes, observation.prompts, optimization.seed)
            folder.write_json("selection.json", selected)
            progress.line(f"model/ is that of step {selected['step']}: {says(selected)}")
        folder.save_model(TrainedModel(policies.policy, tokenizer, fine_tuning, base))
    for left in ("checkpoints", "selected"):
        shutil.rmtree(folder.path / left, ignore_errors=True)
    return TrainingResult(folder.path, choice, time.perf_counter() - started)


def _tell(profiler: StepProfiler, folder: RunFolder, progress: Progress) -> None:
    found = profiler.result()
    if found is None:
        progress.line(f"no profile: the run has no more steps than the {SKIPPED} that warm up")
        return
    found.write(folder.path / "profile.json")
    for line in found.lines():
        progress.line(line)


def return_to_checkpoint(folder: RunFolder, progress: Progress) -> Path | None:
    """The last checkpoint, with the record cut back to it."""
    checkpoint = last_checkpoint(folder.path / "checkpoints")
    step = step_of(checkpoint) if checkpoint else -1
    folder.keep_until(step)
    progress.line(f"resuming after step {step}" if checkpoint else "no checkpoint yet: starting again at step 0")
    return checkpoint


def trainer_arguments(path: Path, o: Optimization, trackers: Trackers) -> TrainingArguments:
    """What the Trainer of a run in the folder ``path`` is told."""
    arguments = RecordedArguments(
        output_dir=str(path / "checkpoints"),
        max_steps=o.steps,
        per_device_train_batch_size=o.prompts_per_step,
        learning_rate=o.learning_rate,
        lr_scheduler_type=SCHEDULES[o.schedule],
        warmup_steps=round(o.warmup_share * o.steps),
        max_grad_norm=o.max_grad_norm,
        weight_decay=o.weight_decay,
        seed=o.seed,
        logging_steps=1,
        save_strategy="no",  # CheckpointCallback asks for them
        save_total_limit=1,
        report_to=[],
        remove_unused_columns=False,
        label_names=[],  # the Trainer cannot see them through a PEFT wrapper, and warns
        dataloader_drop_last=True,  # a short last batch would be a step in which each prompt weighs more
        use_cpu=not torch.cuda.is_available(),
        run_name=trackers.run_name,
        project="safetyvalve",
    )
    arguments.recorded = trackers.settings
    return arguments


def _with_reference(
    reference: PreTrainedModel,
    examples: Sequence[TokenizedExample],
    trained: int,
    o: Optimization,
    cache: ReferenceCache,
    progress: Progress,
) -> tuple[list[ReferencedExample], EngineChoice]:
    """With the forward that is used, which the first ``trained`` of the examples decide."""
    trees = [Tree(e.prompt_ids, e.response_ids) for e in examples]
    choice = engine_of(reference, trees[:trained], o, cache.compared(reference, trees, autocast=o.autocast))
    progress.line(f"engine: {choice.engine} ({choice.reason})")
    sums = cache.sums(
        reference,
        trees,
        engine=choice.engine,
        token_budget=o.token_budget,
        autocast=o.autocast,
        progress=progress.reference,
        compared=choice.reason if choice.engine == "tree" else None,
    )
    progress.line("reference log-probabilities: " + ("from the cache" if cache.hit else "computed"))
    return [ReferencedExample(e, s) for e, s in zip(examples, sums, strict=True)], choice
