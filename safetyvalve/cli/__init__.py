"""The command line: one file a command; this one mounts them and turns errors into one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, Exit, TyperException

from safetyvalve import __version__
from safetyvalve.cli import data, quickstart, report, testbed, train
from safetyvalve.errors import SafetyValveError

__all__ = ["app", "main"]

app = typer.Typer(
    name="safetyvalve",
    help="Align language models with human preference without overoptimizing the reward.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("report")(report.report)
app.add_typer(testbed.app, name="testbed")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"safetyvalve {__version__}")
        raise Exit


@app.callback()
def root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Say it.")) -> None:
    """Align language models with human preference without overoptimizing the reward."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. 2 is a mistake of the user, told in one line."""
    try:
        status = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except Exit as error:
        return error.exit_code
    except (Abort, KeyboardInterrupt):
        print("safetyvalve: interrupted", file=sys.stderr)
        return 130
    except TyperException as error:
        print(f"safetyvalve: {_one_line(error.format_message())} See `safetyvalve --help`.", file=sys.stderr)
        return 2
    except SafetyValveError as error:
        print(f"safetyvalve: {_one_line(str(error))}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


def _one_line(message: str) -> str:
    return " ".join(message.split())
