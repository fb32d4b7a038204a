"""From names and files to a finished run folder: load, check, split, tokenize, train, record."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import (
    DEMONSTRATION_FORMS,
    DataReport,
    Loaded,
    PreferenceExample,
    ServingPrompt,
    Split,
    TokenizedExample,
    holds_demonstrations,
    load_demonstrations,
    load_preferences,
    load_serving_prompts,
    prompt_coverage,
    split_by_opening,
)
from safetyvalve.encoders import load_encoder
from safetyvalve.errors import DataError, ModelError, UsageError
from safetyvalve.generation import ready_prompts
from safetyvalve.models import base_record, cache_folder, is_adapter, load_model
from safetyvalve.rewards import RewardModel, load_reward
from safetyvalve.training.baseline_plan import BaselinePlan, Carried
from safetyvalve.training.estimate import Estimate, estimate_run
from safetyvalve.training.first import FirstMeasures
from safetyvalve.training.folder import RunFolder, environment, read_config
from safetyvalve.training.material import choose, compare_environments, tokenize_split
from safetyvalve.training.maximin import Opponent
from safetyvalve.training.meaning import meaning_lines, meaning_of
from safetyvalve.training.preview import preview_batch
from safetyvalve.training.progress import Progress
from safetyvalve.training.run import TrainingResult, train_policy
from safetyvalve.training.sampling import Probe
from safetyvalve.training.scoring import Scorer
from safetyvalve.training.settings import RunSettings
from safetyvalve.training.stopwatch import Scratch
from safetyvalve.training.trackers import Trackers, check_installed
from safetyvalve.trees import EngineChoice, ReferenceCache, weights_hash

__all__ = ["DryRun", "dry_run", "resume_training", "run_training"]


class DryRun(NamedTuple):
    """What a run would take, and its first step as the model sees it."""

    estimate: Estimate
    preview: list[str]

    def lines(self) -> list[str]:
        """For a person to read."""
        return [*self.estimate.lines(), *self.preview]


class _HasEngine(Protocol):
    @property
    def engine(self) -> EngineChoice: ...


Outcome = TypeVar("Outcome", bound=_HasEngine)


class _Prepared(NamedTuple):
    carried: Carried
    held_out: list[tuple[PreferenceExample, TokenizedExample]]
    report: DataReport
    train_ids: list[str]
    examples: list[PreferenceExample]
    """Those trained on."""


def run_training(
    settings: RunSettings,
    output: Path,
    *,
    scorer: Scorer | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    profiled: bool = False,
) -> TrainingResult:
    """Train as ``settings`` say and leave config.yaml, environment.json, data_report.json, settings.json,
    metrics.jsonl, samples/ and model/ with its model card in ``output``.

    Args:
        settings: everything that decides the result.
        output: a folder that does not exist or is empty; with ``resume``, that of a run with these settings.
        scorer: the function that ``settings.scorer`` names.
        progress: what a person sees; None says nothing.
        resume: go on from the folder's last checkpoint; the data and the model must be what they were.
        profiled: also say where a step's time goes, and leave it in profile.json.

    Raises:
        SafetyValveError: a setting, the data, the model or the folder cannot be used. What was refused before anything
            was computed leaves no folder; a run that began leaves it as far as it got.
    """
    progress = progress or Progress(enabled=False)
    # The data is read before the folder is made: a wrong file name leaves nothing behind.
    source = _read(settings, progress)
    folder = RunFolder(output, resume=resume)
    try:
        if profiled and settings.algorithm.name == "maximin":
            raise UsageError("profile has no meaning for the algorithm 'maximin', whose steps it cannot tell apart.")
        train: Callable[..., TrainingResult] = partial(train_policy, profiled=profiled)
        result = _run(settings, source, folder, train, scorer=scorer, progress=progress, resume=resume)
        from safetyvalve.report.card import write_card  # its package loads matplotlib

        write_card(folder.path)
    except (UsageError, DataError, ModelError):
        if not resume:
            folder.discard()
        raise
    finally:
        folder.close()
    return result


def dry_run(settings: RunSettings, *, scorer: Scorer | None = None, progress: Progress | None = None) -> DryRun:
    """Check the data, then measure the first steps of the run that ``settings`` describe. Leaves no folder.

    Args:
        settings, scorer, progress: as :func:`run_training`.

    Raises:
        SafetyValveError: what :func:`run_training` would raise; or the run does not fit into memory.
    """
    if settings.algorithm.name == "maximin":
        raise UsageError(
            "dry_run has no meaning for the algorithm 'maximin': it measures the steps of a loss on comparisons, and "
            "these sample answers and train a reward too. Run a few: --steps 2."
        )
    started = time.perf_counter()
    progress = progress or Progress(enabled=False)
    preview: list[str] = []

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *data: Any, **arguments: Any) -> Estimate:
        estimate = estimate_run(model, tokenizer, *data, **arguments, started=started)
        preview.extend(preview_batch(estimate.first_batch, tokenizer))
        return estimate

    source = _read(settings, progress)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Scratch(Path(scratch) / "run")
        try:
            estimate = _run(settings, source, folder, measure, scorer=scorer, progress=progress, resume=False)
        finally:
            folder.close()
    return DryRun(estimate, preview)


class _Source(NamedTuple):
    """What was read, before any model is."""

    loaded: Loaded
    serving: Sequence[ServingPrompt]
    split: Split
    plan: BaselinePlan


def _read(settings: RunSettings, progress: Progress) -> _Source:
    check_installed(settings.reporting.report_to)
    _refuse_adapter_on_adapter(settings)
    gc.collect()  # a trainer is a knot of references; those of an earlier run in this process hold gigabytes
    loaded = choose(_load(settings), settings.source, progress)
    serving = load_serving_prompts(settings.source.serving_prompts) if settings.source.serving_prompts else []
    split = split_by_opening(loaded.examples, held_out=settings.source.held_out, seed=settings.source.split_seed)
    return _Source(loaded, serving, split, BaselinePlan(settings, split))


def _run(
    settings: RunSettings,
    source: _Source,
    folder: RunFolder,
    train: Callable[..., Outcome],
    *,
    scorer: Scorer | None,
    progress: Progress,
    resume: bool,
) -> Outcome:
    """Everything from the model to the record; ``train`` is :func:`train_policy` or takes its arguments."""
    loaded, serving, split, plan = source
    if not resume:
        folder.write_config(settings.flat())  # first: a run that stops at any later moment can be resumed from it
    four_bit = None
    if settings.fine_tuning.fine_tune == "qlora":
        four_bit = settings.optimization.autocast or torch.float32
    model, tokenizer = load_model(
        settings.model.model,
        chat_template=settings.model.chat_template,
        trust_remote_code=settings.model.trust_remote_code,
        allow_pickle=settings.model.allow_pickle,
        four_bit=four_bit,
    )
    proxy, other = _reward_models(settings.observation.proxy, settings.observation.held_out_member, model.device)
    observed = None
    if settings.observation.sample_from == "serving":
        ready = ready_prompts(serving, model, tokenizer, max_new_tokens=settings.observation.max_new_tokens)
        observed = [Probe(*prompt) for prompt in ready]
    reported = resume and folder.read_json("data_report.json")
    data = _prepare(settings, loaded, [] if reported else serving, split, plan, model, tokenizer, folder, progress)
    with ThreadPoolExecutor() as pool:  # two hashes of all weights, each of which lets the other compute
        record = pool.submit(base_record, settings.model.model, model, four_bit=four_bit)
        weights = weights_hash(model)
        base = record.result()
    now = environment(
        seed=settings.optimization.seed,
        data_sha256=loaded.report.sha256,
        weights_sha256=weights,
        train_ids=data.train_ids,
    )
    if plan.sft is not None:
        now["sft_data_sha256"] = plan.sft.report.sha256
    opponent = None
    if settings.algorithm.name == "maximin":
        opponent = Opponent(settings.algorithm, [*data.examples, *(e for e, _ in data.held_out)])
        now["reward_sha256"] = opponent.sha256
    before = folder.read_json("environment.json") if resume else None
    if before:
        compare_environments(before, now, folder.path, progress)
    else:
        folder.write_json("environment.json", now)
    if not reported:  # sentence embeddings of all data are not made again
        folder.write_json("data_report.json", data.report.model_dump(mode="json"))
    meaning = meaning_of(settings.objective, settings.baseline.kind, data.carried) | {"baseline": plan.record()}
    for line in [*plan.lines, *meaning_lines(meaning, settings.objective)]:
        progress.line(line)
    folder.write_json("settings.json", meaning)
    result = train(
        model,
        tokenizer,
        data.carried.train,
        data.held_out,
        sft=data.carried.sft,
        folder=folder,
        objective=settings.objective,
        optimization=settings.optimization,
        observation=settings.observation,
        reference_cache=ReferenceCache(cache_folder() / "reference", weights),
        first=FirstMeasures(cache_folder() / "first", weights),
        checkpointing=settings.checkpointing,
        trackers=Trackers(settings.reporting.report_to, settings.name, settings.flat()),
        fine_tuning=settings.fine_tuning,
        valve=settings.valve,
        base=base,
        opponent=opponent,
        resume=resume,
        scorer=scorer,
        proxy=proxy,
        held_out_member=other,
        observed=observed,
        progress=progress,
    )
    folder.write_json("settings.json", meaning | {"engine": result.engine._asdict()})
    return result


def _reward_models(
    proxy: str | None, held_out_member: str | None, device: torch.device
) -> tuple[RewardModel | None, RewardModel | None]:
    """Proxy and held-out member by name.

    Raises:
        ModelError: one cannot be loaded.
        UsageError: both were trained on the same comparisons.
    """
    loaded = [None if name is None else load_reward(name).to(device).eval() for name in (proxy, held_out_member)]
    ids = [m.record.data.get("train_ids_sha256") for m in loaded if m is not None and m.record is not None]
    if len(ids) == 2 and ids[0] is not None and ids[0] == ids[1]:
        raise UsageError(
            f"held_out_member is '{held_out_member}', which was trained on the comparisons of the proxy '{proxy}'; one "
            "of a disjoint split is accepted. Train it on other rows."
        )
    return loaded[0], loaded[1]


def _refuse_adapter_on_adapter(settings: RunSettings) -> None:
    """Plain transformers does not load one; merged, it is a whole model."""
    if settings.fine_tuning.adapts and not settings.fine_tuning.merge and is_adapter(settings.model.model):
        raise UsageError(
            f"model '{settings.model.model}' is an adapter, and an adapter on top of it could only be loaded by "
            "safetyvalve. Add --merge, which saves a whole model, or use --fine-tune full."
        )


def resume_training(
    run: Path, load_scorer: Callable[[str | None], Scorer | None], *, progress: Progress | None = None
) -> TrainingResult:
    """Go on with the run in ``run``, with the settings that its config.yaml holds.

    Args:
        run: the folder of a run that was stopped.
        load_scorer: from the name in the settings to the function.
        progress: what a person sees; None says nothing.

    Raises:
        SafetyValveError: as :func:`run_training`; or there is no run, it is finished, or its data or model changed.
    """
    settings = RunSettings.of(read_config(run))
    return run_training(settings, run, scorer=load_scorer(settings.scorer), progress=progress, resume=True)


def _load(settings: RunSettings) -> Loaded:
    """The data: comparisons, or for the objective ``sft`` also prompts with responses."""
    source, objective = settings.source, settings.objective.name
    demonstrations = source.format in DEMONSTRATION_FORMS or (
        source.format == "auto" and holds_demonstrations(source.data, encoding=source.encoding)
    )
    if not demonstrations:
        return load_preferences(
            source.data,
            form=source.format,
            max_drop=source.max_drop,
            baseline_column=settings.baseline.baseline_column,
            encoding=source.encoding,
        )
    if objective != "sft":
        raise DataError(
            f"has prompts with responses and no comparisons; the objective '{objective}' learns from comparisons. "
            "Train on it first with --objective sft, or make it the baseline of comparisons with --baseline sft-data "
            "--sft-data FILE.",
            file=source.data,
        )
    if settings.baseline.kind != "chosen":
        raise UsageError(
            f"baseline '{settings.baseline.kind}' has no meaning for data without comparisons, whose responses are "
            "what is learned. Leave --baseline out."
        )
    return load_demonstrations(source.data, form=source.format, max_drop=source.max_drop, encoding=source.encoding)


def _prepare(
    settings: RunSettings,
    loaded: Loaded,
    serving: Sequence[ServingPrompt],
    split: Split,
    plan: BaselinePlan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: RunFolder,
    progress: Progress,
) -> _Prepared:
    keep = not isinstance(folder, Scratch)  # a dry run leaves nothing
    done = tokenize_split(settings.source, settings.model.model, loaded, split, model, tokenizer, keep=keep)
    report = done.report
    if serving:
        coverage = prompt_coverage(serving, [e for e, _ in done.train], load_encoder(settings.source.encoder))
        report = report.model_copy(update={"coverage": coverage})
    for line in report.lines():
        progress.line(line)
    progress.line(f"split by opening turn: {len(done.train)} examples to train on, {len(done.held_out)} held out")
    carried = plan.carry(
        ([e for e, _ in done.train], [t for _, t in done.train]),
        ([e for e, _ in done.held_out], [t for _, t in done.held_out]),
        model,
        tokenizer,
        max_length=done.limit,
        folder=folder,
    )
    measured = list(zip((e for e, _ in done.held_out), carried.held_out, strict=True))
    return _Prepared(carried, measured, report, [t.id for _, t in done.train], [e for e, _ in done.train])
