"""``safetyvalve reward``: reward models, what they are worth and what they are unsure of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from safetyvalve.cli import reward_train
from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.cli.configured import ConfiguredCommand

__all__ = ["app"]

app = typer.Typer(help="Train, use and examine reward models.", no_args_is_help=True)
app.command("train", cls=ConfiguredCommand)(reward_train.train)

Precision = Annotated[
    Literal["auto", "bf16", "fp32"],
    typer.Option(help="Arithmetic. bf16 errs in the third digit; auto takes it where it is faster."),
]
TokenBudget = Annotated[int, typer.Option(help="Tokens computed together; bounds the memory.")]


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="Run of `reward train`, its model/, or any reward model.")],
    source: Annotated[str, typer.Argument(help="Comparisons or answers; or a run, RUN or RUN@STEP.")],
    output: Annotated[Path | None, typer.Option(help="JSON lines, one a response. Default: scores.jsonl.")] = None,
    aggregation: Annotated[
        str | None, typer.Option(help="mean, min, mean-std or mean-variance. Default: the model's own.")
    ] = None,
    k: Annotated[float, typer.Option(help="Of mean-std and mean-variance.")] = 1.0,
    precision: Precision = "auto",
    token_budget: TokenBudget = 4096,
    encoding: Annotated[str, typer.Option(help="Of text files; auto recognises it or refuses.")] = "auto",
) -> None:
    """Score the responses of a file by every member.

    A line has the response's id, the hash of prompt and response: join by it. The same command goes on where it was
    stopped. A response without a score is counted, with its reason.
    """
    keep_freed_memory()
    from safetyvalve.precision import autocast_of
    from safetyvalve.rewards import Aggregation, load_reward, score_items
    from safetyvalve.training.reward.sources import read_asked

    chosen = Aggregation(aggregation, k) if aggregation else None
    items = read_asked(source, encoding=encoding).items
    file = output or Path("scores.jsonl")
    with _bar() as told:
        done = score_items(
            load_reward(model),
            items,
            file,
            aggregation=chosen,
            token_budget=token_budget,
            autocast=autocast_of(precision),
            progress=told,
        )
    typer.echo(f"{file}: {done.scored} responses scored ({done.present} were there already)")
    if done.duplicates:
        typer.echo(f"  given more than once, scored once: {done.duplicates}")
    for reason, count in done.unscored.most_common():
        typer.echo(f"  unscored: {count}, {reason}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Run of `safetyvalve reward train`.")],
    data: Annotated[list[str] | None, typer.Option(help="Other comparisons, or answers that nobody compared.")] = None,
    samples: Annotated[list[str] | None, typer.Option(help="Run of a policy, whose samples are scored.")] = None,
    slice_by: Annotated[list[str] | None, typer.Option(help="Field of the data to count accuracy by.")] = None,
    precision: Precision = "auto",
    token_budget: TokenBudget = 4096,
) -> None:
    """Measure a reward model: accuracy, calibration, length bias, slices and members, with intervals.

    On the comparisons that its run held out; on other data, with the share of responses that it is less sure of; and on
    samples of a policy, step by step. Kept in evaluation.json of the run, for the card. Scores are computed once.
    """
    keep_freed_memory()
    from safetyvalve.training.reward.examine import Examiner

    with _bar() as told:
        examiner = Examiner(model, precision=precision, token_budget=token_budget, progress=told)
        found: dict[str, Any] = {}
        if examiner.settings is not None:
            found["held_out"] = examiner.held_out(slice_by=slice_by or ())
        elif not data and not samples:
            examiner.held_out()  # says what is missing
        found["sets"] = {name: examiner.comparisons(name, slice_by=slice_by or ()) for name in data or ()}
        found["samples"] = {name: examiner.samples(name) for name in samples or ()}
    file = examiner.keep(found)
    for title, values in [("held out", found.get("held_out")), *found["sets"].items()]:
        if values and "accuracy" in values:
            _print_quality(title, values)
        elif values:
            typer.echo(f"{title}: {json.dumps(values['responses'])}")
    for name, steps in found["samples"].items():
        for step, one in steps.items():
            typer.echo(f"{name} step {step}: reward {_interval(one['reward'])}, spread {one['spread']:.3f}")
    typer.echo(f"written: {file}")


@app.command()
def card(
    model: Annotated[str, typer.Argument(help="Run of `safetyvalve reward train`.")],
    votes: Annotated[
        str | None, typer.Option(help="Newer votes of people: preference pairs, or verdicts with --answers.")
    ] = None,
    answers: Annotated[list[str] | None, typer.Option(help="Answers that the verdicts are about.")] = None,
    drop: Annotated[float, typer.Option(help="Drop of accuracy that newer votes must be able to exclude.")] = 0.1,
    precision: Precision = "auto",
    token_budget: TokenBudget = 4096,
) -> None:
    """Write the model card: what the model is, all that was measured, its limits, and whether it went stale.

    Measure first with `safetyvalve reward evaluate`. With --votes, its accuracy on newer votes is compared with that on
    the held-out comparisons: stale, not shown to be stale, or too few votes to tell.
    """
    keep_freed_memory()
    from safetyvalve.training.reward.carding import write_reward_card
    from safetyvalve.training.reward.examine import Examiner
    from safetyvalve.training.reward.sources import read_votes

    with _bar() as told:
        examiner = Examiner(model, precision=precision, token_budget=token_budget, progress=told)
        if votes is not None:
            found = examiner.votes(read_votes(votes, answers or ()), smallest_drop=drop)
            examiner.keep({"staleness": found})
            typer.echo(f"{found['finding']}: change of accuracy {_interval(found['change'])}")
    typer.echo(write_reward_card(examiner))


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Progress in responses on standard error."""
    from tqdm import tqdm

    with tqdm(unit="response", disable=None, leave=False) as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        yield told


def _print_quality(title: str, values: dict[str, Any]) -> None:
    found, n = values["calibration"], values["comparisons"] - values["unscored"]
    typer.echo(
        f"{title}: accuracy {_interval(values['accuracy'])} over {n} comparisons, {values['unscored']} unscored; "
        f"log loss {values['log_loss']:.3f}; ECE {found['ece']:.3f} "
        f"({found['ece_if_calibrated']:.3f} if calibrated)"
    )
    if members := values["members"]:
        typer.echo(
            f"  members: two order alike {members['pairwise_agreement']:.3f}, all {members['unanimous']:.3f} of the "
            "comparisons"
        )
    if length := values["length"]:
        typer.echo(f"  prefers the longer answer by {_interval(length['difference'])} more often than people")


def _interval(values: dict[str, Any]) -> str:
    low, high = (f"{values[end]:.3f}" if values[end] is not None else "unknown" for end in ("low", "high"))
    return f"{values['estimate']:.3f} ({low} to {high})"
