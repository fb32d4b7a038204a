"""``safetyvalve reward``: reward models and what they are unsure of."""

from __future__ import annotations

import typer

from safetyvalve.cli import reward_train
from safetyvalve.cli.configured import ConfiguredCommand

__all__ = ["app"]

app = typer.Typer(help="Train, use and examine reward models.", no_args_is_help=True)
app.command("train", cls=ConfiguredCommand)(reward_train.train)
