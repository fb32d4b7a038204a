"""``safetyvalve testbed``: check the theory in minutes, and try a loss of your own before renting a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from safetyvalve.testbed.output import Outcome

app = typer.Typer(
    help="Check the theory on small problems with exact solutions: figures, CSV, and what holds or does not.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option(help="Folder for CSV, figures and a summary; made if missing.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]
Sets = Annotated[int | None, typer.Option(min=2, help="Random data sets a setting. Fewer is faster and wider.")]
FOLDER = Path("runs/testbed")


@app.command()
def duality(
    problems: Annotated[int, typer.Option(min=1, help="Random problems.")] = 100,
    out: Out = FOLDER,
    seed: Seed = 0,
) -> None:
    """The maximin objective and its RPO form, solved separately: the largest gap."""
    from safetyvalve.testbed.experiments import duality as experiment

    _report(lambda: experiment.run(problems=problems, seed=seed), out)


@app.command()
def overoptimization(
    out: Out = FOLDER,
    seed: Seed = 0,
    sets: Sets = None,
    objective: Annotated[
        str | None, typer.Option(help="A loss of your own to run beside the others: module:function.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="Run this setting only, such as 'long tail'; may be repeated.")
    ] = None,
) -> None:
    """True value against KL and beta: DPO, IPO, chi-PO, an ensemble, RPO with several baselines."""
    from safetyvalve.testbed.custom import load_objective
    from safetyvalve.testbed.experiments import overoptimization as experiment
    from safetyvalve.testbed.generate import SETTINGS, check_settings

    loss = None if objective is None else load_objective(objective)
    settings = check_settings(setting) if setting else SETTINGS
    _report(
        lambda: experiment.run(
            sets=sets or 600, seed=seed, settings=settings, objective=loss, objective_name=objective or ""
        ),
        out,
    )


@app.command()
def rate(out: Out = FOLDER, seed: Seed = 0, sets: Sets = None) -> None:
    """How fast the worst-case gap falls with the size of the data, beside the theorem's bound."""
    from safetyvalve.testbed.experiments import rate as experiment

    _report(lambda: experiment.run(sets=sets or 500, seed=seed), out)


@app.command()
def eta(out: Out = FOLDER, seed: Seed = 0, sets: Sets = None) -> None:
    """The strength of the SFT term: the sweep, the best value as data grow, the three reductions."""
    from safetyvalve.testbed.experiments import eta as experiment

    _report(lambda: experiment.run(sets=sets or 300, seed=seed), out)


@app.command()
def limits(out: Out = FOLDER, seed: Seed = 0, sets: Sets = None) -> None:
    """Where the guarantee stops: label noise, intransitive preferences, a misspecified class."""
    from safetyvalve.testbed.experiments import limits as experiment

    _report(lambda: experiment.run(sets=sets or 300, seed=seed), out)


@app.command()
def maximin(out: Out = FOLDER, seed: Seed = 0, sets: Sets = None) -> None:
    """Algorithm 1 played by stochastic updates: how far its policy is from the exact maximin one."""
    from safetyvalve.testbed.experiments import maximin as experiment

    _report(lambda: experiment.run(sets=sets or 8, seed=seed), out)


@app.command(name="all")
def everything(out: Out = FOLDER, seed: Seed = 0, sets: Sets = None) -> None:
    """All six, one after the other: what docs/testbed.md is made from."""
    begun = perf_counter()
    duality(out=out, seed=seed)
    overoptimization(out=out, seed=seed, sets=sets)
    rate(out=out, seed=seed, sets=sets)
    eta(out=out, seed=seed, sets=sets)
    limits(out=out, seed=seed, sets=sets)
    maximin(out=out, seed=seed, sets=sets)
    print(f"all: {perf_counter() - begun:.0f} s")


def _report(experiment: Callable[[], Outcome], out: Path) -> None:
    """Run one experiment, print what it found, write its files."""
    from safetyvalve.testbed.output import markdown, write

    begun = perf_counter()
    outcome = experiment()
    files = write(outcome, out)
    print(f"{outcome.name} ({perf_counter() - begun:.0f} s)")
    for line in outcome.headline:
        print(f"  {line}")
    for table in outcome.tables.values():
        print(f"\n{markdown(table)}")
    print(f"\nwrote {len(files)} files to {out}\n")
