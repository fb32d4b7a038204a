"""One reward training: from names and files to a run folder with a reward model in it."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProgressCallback, TrainerControl, TrainerState, set_seed
from transformers.trainer_callback import TrainerCallback

from safetyvalve.data import Loaded, Split, load_preferences, split_by_opening
from safetyvalve.errors import DataError, ModelError, UsageError
from safetyvalve.lineage import BaseModel
from safetyvalve.rewards import SOURCES, RewardModel, RewardRecord, Width, fit_width, save_reward
from safetyvalve.training.checkpoints import CheckpointCallback, StopRequest
from safetyvalve.training.choosing import telling, visited
from safetyvalve.training.folder import RunFolder, environment, read_config
from safetyvalve.training.forward import Forward
from safetyvalve.training.material import TokenizedSplit, choose, compare_environments, tokenize_split
from safetyvalve.training.memory import check_weights_fit
from safetyvalve.training.progress import Progress
from safetyvalve.training.reward.building import build_reward, finished, start_of
from safetyvalve.training.reward.examples import RewardExample, weighted_examples
from safetyvalve.training.reward.settings import RewardSettings
from safetyvalve.training.reward.trainer import RewardTrainer, held_out_metrics
from safetyvalve.training.run import return_to_checkpoint, trainer_arguments
from safetyvalve.training.trackers import Trackers
from safetyvalve.training.trainer import resident_gib
from safetyvalve.trees import EngineChoice, Tree

__all__ = ["RewardResult", "resume_reward", "train_reward"]


class RewardResult(NamedTuple):
    """Where the run is and how it went."""

    folder: Path
    engine: EngineChoice
    seconds: float
    held_out: Mapping[str, float]
    """Metrics of the last measurement."""


def train_reward(
    settings: RewardSettings, output: Path, *, progress: Progress | None = None, resume: bool = False
) -> RewardResult:
    """Train as ``settings`` say and leave config.yaml, environment.json, data_report.json, metrics.jsonl and model/ in
    ``output``.

    Args:
        settings: everything that decides the result.
        output: a folder that does not exist or is empty; with ``resume``, that of a run with these settings.
        progress: what a person sees; None says nothing.
        resume: go on from the folder's last checkpoint; data and model must be what they were.

    Raises:
        SafetyValveError: a setting, the data, the model or the folder cannot be used; or somebody stopped the run.
    """
    progress = progress or Progress(enabled=False)
    gc.collect()  # a trainer is a knot of references; those of an earlier run in this process hold gigabytes
    source = settings.source
    read = load_preferences(source.data, form=source.format, max_drop=source.max_drop, encoding=source.encoding)
    loaded = choose(read, source, progress)
    split = split_by_opening(loaded.examples, held_out=source.held_out, seed=source.split_seed)
    folder = RunFolder(output, resume=resume)
    try:
        return _run(settings, loaded, split, folder, progress, resume=resume)
    except (UsageError, DataError, ModelError):
        if not resume:
            folder.discard()
        raise
    finally:
        folder.close()


def resume_reward(run: Path, *, progress: Progress | None = None) -> RewardResult:
    """Go on with the reward training in ``run``, with the settings that its config.yaml holds; errors as
    :func:`train_reward`."""
    return train_reward(RewardSettings.of(read_config(run)), run, progress=progress, resume=True)


def _run(
    settings: RewardSettings, loaded: Loaded, split: Split, folder: RunFolder, progress: Progress, *, resume: bool
) -> RewardResult:
    started = time.perf_counter()
    if not resume:
        folder.write_config(settings.flat())  # first: a run that stops at any later moment can be resumed from it
    ensemble, o = settings.ensemble, settings.optimization
    outputs = ensemble.members if ensemble.sharing == "heads" else 1
    start = start_of(settings.model, outputs, seed=o.seed)
    data = tokenize_split(settings.source, settings.model.model, loaded, split, start.model, start.tokenizer)
    _record(settings, loaded, data, start.base, folder, progress, resume=resume)
    train = visited([t for _, t in data.train], o)
    chosen = {t.id for t in train}
    examples = weighted_examples([p for p in data.train if p[1].id in chosen], ensemble, seed=o.seed)
    if len(examples) < o.prompts_per_step:
        raise DataError(
            f"there are {len(examples)} examples to train on, fewer than the {o.prompts_per_step} of one step. Lower "
            "--prompts-per-step or hold out fewer."
        )
    held_out = [RewardExample(t, (1.0,) * ensemble.members) for _, t in data.held_out[: settings.held_out_examples]]
    set_seed(o.seed)
    start.model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    model = build_reward(start, settings)
    choice = model.choose_engine(telling([e.tree for e in examples]), wanted=o.engine)
    progress.line(f"engine: {choice.engine} ({choice.reason})")
    check_weights_fit(model, own_reference=False)
    forward = Forward.of(choice.engine, o)
    measure = _Measure(settings, held_out, forward, folder, progress)
    _train(model, examples, settings, forward, folder, measure, progress, resume=resume)
    model = finished(model)
    if settings.uncertainty.width != "none":
        model.widths = _widths(model, [e.tokens for e in examples], forward, settings, progress)
    progress.line("saving the model")
    record = _reward_record(settings, loaded, examples, choice, start.base)
    folder.save_model(_Saved(model, record, settings, start.base))
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    return RewardResult(folder.path, choice, time.perf_counter() - started, measure.last)


class _Saved(NamedTuple):
    """What the run folder asks to save itself."""

    model: RewardModel
    record: RewardRecord
    settings: RewardSettings
    base: BaseModel

    def save_pretrained(self, save_directory: Path, /) -> None:
        save_reward(self.model, save_directory, self.record, dtype=self.settings.fine_tuning.saved_as, base=self.base)


def _record(
    settings: RewardSettings,
    loaded: Loaded,
    data: TokenizedSplit,
    base: BaseModel,
    folder: RunFolder,
    progress: Progress,
    *,
    resume: bool,
) -> None:
    """environment.json and data_report.json, or the comparison with what a resumed run began with."""
    for line in data.report.lines():
        progress.line(line)
    progress.line(f"split by opening turn: {len(data.train)} examples to train on, {len(data.held_out)} held out")
    now = environment(
        seed=settings.optimization.seed,
        data_sha256=loaded.report.sha256,
        weights_sha256=base.sha256,
        train_ids=[t.id for _, t in data.train],
    )
    before = folder.read_json("environment.json") if resume else None
    if before:
        compare_environments(before, now, folder.path, progress)
    else:
        folder.write_json("environment.json", now)
    folder.write_json("data_report.json", data.report.model_dump(mode="json"))


class _Examples(Dataset[RewardExample]):
    def __init__(self, examples: Sequence[RewardExample]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> RewardExample:
        return self.examples[index]


class _Measure(TrainerCallback):
    """Measures held-out comparisons before the first step, at intervals and after the last."""

    def __init__(
        self,
        settings: RewardSettings,
        held_out: list[RewardExample],
        forward: Forward,
        folder: RunFolder,
        progress: Progress,
    ) -> None:
        self.settings, self.held_out, self.forward = settings, held_out, forward
        self.folder, self.progress = folder, progress
        self.last: Mapping[str, float] = {}
        self.publish: Callable[[Mapping[str, float]], None] = lambda values: None
        spent = max((m["seconds"] for m in folder.metrics() if m["kind"] == "evaluation"), default=0.0)
        self.started = time.perf_counter() - spent

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(kwargs["model"], 0)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.settings.eval_every == 0 or state.global_step == state.max_steps:
            self._measure(kwargs["model"], state.global_step)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.folder.append_metrics({"kind": "train", "step": state.global_step, **logs})

    def _measure(self, model: RewardModel, step: int) -> None:
        self.progress.note("measuring")
        values = held_out_metrics(model, self.held_out, self.forward, self.settings.learning)
        self.last = values
        more = {"resident_gib": resident_gib(), "seconds": time.perf_counter() - self.started}
        self.folder.append_metrics({"kind": "evaluation", "step": step, **values, **more})
        self.publish(values)
        self.progress.evaluated(step, values)


def _train(
    model: RewardModel,
    examples: Sequence[RewardExample],
    settings: RewardSettings,
    forward: Forward,
    folder: RunFolder,
    measure: _Measure,
    progress: Progress,
    *,
    resume: bool,
) -> None:
    checkpoint = return_to_checkpoint(folder, progress) if resume else None
    with StopRequest(progress) as stop:
        trainer = RewardTrainer(
            model=model,
            args=trainer_arguments(folder.path, settings.optimization, Trackers()),
            train_dataset=_Examples(examples),
            learning=settings.learning,
            forward=forward,
            callbacks=[measure, progress.callback(), CheckpointCallback(settings.checkpointing.every, stop)],
        )
        for callback in (ProgressCallback, PrinterCallback):  # ours says the same in one line
            trainer.remove_callback(callback)
        measure.publish = trainer.publish
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


@torch.no_grad()
def _widths(
    model: RewardModel, tokens: Sequence[Any], forward: Forward, settings: RewardSettings, progress: Progress
) -> tuple[Width, ...]:
    """One for each forward, from the features of all training responses."""
    progress.line(f"fitting the width on {len(tokens)} training examples: {SOURCES[settings.uncertainty.width]}")
    trees = [Tree(t.prompt_ids, t.response_ids) for t in tokens]
    groups = forward.groups(trees)
    order = [i for group in groups for i in group]
    comparisons, offset = [], 0
    for i in order:
        comparisons += [(offset + c.winner, offset + c.loser) for c in tokens[i].comparisons]
        offset += len(tokens[i].response_ids)
    widths = []
    for index in range(model.passes):
        parts = []
        for group in groups:
            with forward.arithmetic(model):
                parts.append(model.read(index, [trees[i] for i in group]).features)
        uncertainty = settings.uncertainty
        widths.append(fit_width(torch.cat(parts), comparisons, source=uncertainty.width, ridge=uncertainty.ridge))
    return tuple(widths)


def _reward_record(
    settings: RewardSettings, loaded: Loaded, examples: Sequence[RewardExample], choice: EngineChoice, base: BaseModel
) -> RewardRecord:
    uncertainty = settings.uncertainty
    width = None
    if uncertainty.width != "none":
        width = {"source": uncertainty.width, "ridge": uncertainty.ridge, "formula": SOURCES[uncertainty.width]}
    return RewardRecord(
        version=settings.version,
        sharing=settings.ensemble.sharing,
        members=settings.ensemble.members,
        engine=choice.engine,
        weights_sha256="",
        aggregation=settings.aggregation,
        width=width,
        base=asdict(base),
        data={
            "file": loaded.report.file,
            "sha256": loaded.report.sha256,
            "split_seed": settings.source.split_seed,
            "held_out": settings.source.held_out,
            "examples": len(examples),
            "comparisons": sum(len(e.tokens.comparisons) for e in examples),
        },
        training={
            **asdict(settings.learning),
            **{k: v for k, v in asdict(settings.optimization).items() if k not in ("engine", "token_budget", "memory")},
            "fine_tune": settings.fine_tuning.fine_tune,
            "diversity": settings.ensemble.diversity if settings.ensemble.members > 1 else None,
            "freeze": settings.ensemble.freeze,
        },
    )
