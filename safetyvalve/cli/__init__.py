"""The command line: one file a command; this one mounts them and turns errors into one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import pairwise

import typer
from typer.exceptions import Abort, Exit, TyperException

from safetyvalve import __version__
from safetyvalve.cli import (
    annotate,
    configured,
    convert,
    data,
    decision,
    diagnose,
    doctor,
    init,
    judge,
    kpi,
    lab,
    plan,
    quickstart,
    release,
    report,
    resume,
    reward,
    roi,
    sample,
    stats,
    testbed,
    tour,
    train,
)
from safetyvalve.cli.noise import leave_out_noise
from safetyvalve.errors import RunInterrupted, SafetyValveError

__all__ = ["app", "main"]

app = typer.Typer(
    name="safetyvalve",
    help="Align language models with human preference without overoptimizing the reward.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("quickstart")(quickstart.quickstart)
app.command("tour")(tour.tour)
app.add_typer(annotate.app, name="annotate")
app.add_typer(data.app, name="data")
app.command("train", cls=configured.ConfiguredCommand)(train.train)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("resume")(resume.resume)
app.command("sample")(sample.sample)
app.command("diagnose")(diagnose.diagnose)
app.command("report")(report.report)
app.command("decision")(decision.decision)
app.command("plan")(plan.plan)
app.command("judge")(judge.judge)
app.command("stats")(stats.stats)
app.command("kpi")(kpi.kpi)
app.command("roi")(roi.roi)
app.command("convert")(convert.convert)
app.add_typer(release.app, name="release")
app.add_typer(reward.app, name="reward")
app.add_typer(testbed.app, name="testbed")
app.add_typer(lab.app, name="lab")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"safetyvalve {__version__}")
        raise Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Align language models with human preference without overoptimizing the reward."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. 2 is a mistake of the user, told in one line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    leave_out_noise()
    try:
        status = app(args=words, prog_name="safetyvalve", standalone_mode=False)
    except Exit as error:
        return error.exit_code
    except (Abort, KeyboardInterrupt):
        print("safetyvalve: interrupted", file=sys.stderr)
        return 130
    except TyperException as error:
        print(f"safetyvalve: {_explain(error, words)}", file=sys.stderr)
        return 2
    except RunInterrupted as stop:
        print(f"safetyvalve: {_one_line(str(stop))}", file=sys.stderr)
        return 130
    except SafetyValveError as error:
        print(f"safetyvalve: {_one_line(str(error))}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


def _explain(error: TyperException, words: Sequence[str]) -> str:
    """The parser's message with the value that was given, which it leaves out, and where to read on."""
    message = _one_line(error.format_message())
    if option := re.search(r"'(--[\w-]+)'", message):
        given = [b for a, b in pairwise(words) if a == option[1]]
        given += [w.partition("=")[2] for w in words if w.startswith(option[1] + "=")]
        if given and f"'{given[-1]}'" not in message:
            message += f" Given: '{given[-1]}'."
    context = getattr(error, "ctx", None)
    return f"{message} See `{context.command_path if context else 'safetyvalve'} --help`."


def _one_line(message: str) -> str:
    return " ".join(message.split())
