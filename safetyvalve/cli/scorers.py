"""Independent scorers by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from safetyvalve.errors import UsageError

__all__ = ["load_scorer"]


def load_scorer(name: str | None) -> Callable[[list[str], list[str]], list[float]] | None:
    """The function behind ``quickstart-rubric`` or ``module:function``; None for None.

    Modules are looked for in the current folder too, as ``python -m`` does.

    Raises:
        UsageError: the name is of another form, or names nothing callable.
    """
    if name is None:
        return None
    if name == "quickstart-rubric":
        name = "safetyvalve.lab.quickstart.rubric:score_answers"
    module, separator, function = name.partition(":")
    if not separator or not module or not function:
        raise UsageError(f"--scorer is '{name}'; accepted: quickstart-rubric, or module:function.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"--scorer is '{name}', which cannot be imported ({error}). Name a function of an installed module or of a "
            "file in the current folder."
        ) from None
    if not callable(found):
        raise UsageError(f"--scorer is '{name}', which is a {type(found).__name__}; a function is accepted.")
    scorer: Callable[[list[str], list[str]], list[float]] = found
    return scorer
