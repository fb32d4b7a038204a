"""``safetyvalve annotate``: people judge answers."""

from __future__ import annotations

import typer

from safetyvalve.cli import annotate_plan

__all__ = ["app"]

app = typer.Typer(help="Have people judge answers.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Have people judge answers."""


app.command("plan")(annotate_plan.plan)
