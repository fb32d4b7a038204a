"""``safetyvalve lab``: the controlled experiment on overoptimization, and what it found."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.errors import UsageError

if TYPE_CHECKING:
    from safetyvalve.lab.experiment import Gold

__all__ = ["app"]

app = typer.Typer(
    help="Controlled overoptimization: a known gold, a proxy that learned from few of its labels, policies against it.",
    no_args_is_help=True,
)
FOLDER = Path("runs/lab")


def _setting(help: str) -> Any:
    return typer.Option(help=f"{help} Default: the preset's.", show_default=False)


@app.command()
def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the experiment.")] = FOLDER,
    preset: Annotated[
        str, typer.Option(help="small (docs/lab.md) or tiny (shows that everything works, and no more).")
    ] = "small",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ...; more may be added later.")] = 3,
    gold: Annotated[
        str, typer.Option(help="rubric, module:function(prompts, answers), or the folder of a reward model.")
    ] = "rubric",
    prompt_file: Annotated[
        Path | None, typer.Option(help="JSONL with prompt, or one a line. Default: the quickstart's prompts.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Policy to train: dpo, rpo or dpo-pessimistic; repeatable. Default: all.", show_default=False
        ),
    ] = None,
    model: Annotated[str | None, _setting("Reference policy, and what the proxy starts from.")] = None,
    prompts: Annotated[int | None, _setting("Prompts of the pool.")] = None,
    held_out: Annotated[int | None, _setting("Of these, how many a seed measures on.")] = None,
    samples: Annotated[int | None, _setting("Answers a prompt: the largest n of best of n.")] = None,
    max_new_tokens: Annotated[int | None, _setting("Length limit of an answer.")] = None,
    labels: Annotated[int | None, _setting("Comparisons that the gold labels for the proxy.")] = None,
    label_scale: Annotated[
        float | None, _setting("Labels follow Bradley-Terry at this scale; large: no noise.")
    ] = None,
    members: Annotated[int | None, _setting("Of the proxy's ensemble.")] = None,
    proxy_steps: Annotated[int | None, _setting("Optimizer steps of the proxy.")] = None,
    proxy_rate: Annotated[float | None, _setting("Learning rate of the proxy.")] = None,
    pessimism: Annotated[str | None, _setting("Pessimistic aggregation: min, mean-std or mean-variance.")] = None,
    k: Annotated[float | None, _setting("Of mean-std and mean-variance.")] = None,
    steps: Annotated[int | None, _setting("Optimizer steps of a policy.")] = None,
    evaluations: Annotated[int | None, _setting("Measurements of a policy after its start.")] = None,
    prompts_per_step: Annotated[int | None, _setting("Prompts of a policy's step.")] = None,
    learning_rate: Annotated[float | None, _setting("Of the policies.")] = None,
    beta: Annotated[float | None, _setting("Of DPO and RPO.")] = None,
    eta: Annotated[float | None, _setting("Of RPO.")] = None,
    precision: Annotated[
        str | None,
        _setting("bf16, fp32, or auto: bf16 where this machine computes in it. Default: what is there, else auto."),
    ] = None,
) -> None:
    """Run the experiment, or go on where it was stopped; then report it.

    A pool of answers is drawn and scored by the gold; each seed draws few labels, trains a proxy on them, and optimises
    best of n, DPO, RPO and their pessimistic forms against the proxy. Nothing that is finished is made again.
    """
    options = dict(locals())
    keep_freed_memory()
    from safetyvalve.data import load_serving_prompts
    from safetyvalve.lab.experiment import BEST_OF_N, POLICIES, PRESETS, LabSettings, recorded_precision, run_lab
    from safetyvalve.training import Progress

    if preset not in PRESETS:
        raise UsageError(f"--preset is '{preset}'; accepted: {', '.join(PRESETS)}.")
    options["precision"] = precision or recorded_precision(output)
    given = {f.name: value for f in fields(LabSettings) if (value := options.get(f.name)) is not None}
    if method is not None:
        if unknown := [m for m in method if m not in POLICIES]:
            raise UsageError(f"--method is '{unknown[0]}'; accepted: {', '.join(POLICIES)}. Best of n is always there.")
        given["methods"] = (*BEST_OF_N, *method)
    settings = LabSettings(**{**PRESETS[preset], **given})
    own = None if prompt_file is None else [p.prompt for p in load_serving_prompts(prompt_file)]
    run_lab(settings, output, _gold(gold), seeds=range(seeds), prompts=own, progress=Progress())
    report(output)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of an experiment, finished or not.")] = FOLDER,
    out: Annotated[
        Path | None, typer.Option(help="Folder for table, CSV and figure. Default: that of the experiment.")
    ] = None,
) -> None:
    """Gold against KL: a table, a figure and CSV, from what is finished so far."""
    from safetyvalve.lab.experiment import report_lab
    from safetyvalve.testbed.output import markdown, write

    outcome = report_lab(folder)
    files = write(outcome, out or folder)
    for line in outcome.headline:
        print(f"- {line}")
    for table in outcome.tables.values():
        print(f"\n{markdown(table)}")
    print(f"\nwrote {len(files)} files to {out or folder}")


def _gold(name: str) -> Gold:
    from safetyvalve.cli.scorers import load_scorer
    from safetyvalve.lab.experiment import model_gold, scorer_gold
    from safetyvalve.rewards import load_reward

    if Path(name).is_dir():
        return model_gold(name, load_reward(name))
    if name != "rubric" and ":" not in name:
        raise UsageError(
            f"--gold is '{name}', which is no folder; accepted: rubric, module:function, or a reward model's folder."
        )
    function = load_scorer("quickstart-rubric" if name == "rubric" else name)
    assert function is not None
    return scorer_gold(name, function)
