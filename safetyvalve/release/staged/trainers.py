"""Who trained a run, from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import yaml

from safetyvalve.errors import RunError

__all__ = ["Trained", "trained_by"]


class Trained(NamedTuple):
    """A run's name, and the account that trained it; None in runs from before that was recorded."""

    name: str
    trainer: str | None


def trained_by(run: Path) -> Trained:
    """Read ``config.yaml`` and ``environment.json`` of a run.

    Raises:
        RunError: it is no run.
    """
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        file = run / "environment.json"
        environment = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return Trained(str(config.get("name") or run.resolve().name), environment.get("trained_by"))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"'{run}' is no run folder ({error}); name one that `safetyvalve train` wrote.") from None
