"""A loss of your own by name: ``mymodule:my_loss``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

from safetyvalve.errors import SafetyValveError, UsageError, shorten
from safetyvalve.testbed.derivatives import PairLoss, check_losses

__all__ = ["load_objective"]

SIGNATURE = "(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta)"


def load_objective(name: str) -> PairLoss:
    """Import a function by ``module:function`` and try it on three pairs.

    The module is looked for in the working directory first. The function takes log-probabilities summed over the
    response, one a pair, and returns one loss a pair; it is differentiated by autograd, in float64.

    Raises:
        UsageError: there is no such module or function, or what it returns is not a loss a pair.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"objective is {shorten(name)}; it must be module:function, such as mymodule:my_loss.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"objective {name}: cannot import {module_name} ({error}). Run from the folder that holds "
            f"{module_name.split('.')[0]}.py, or put that folder on PYTHONPATH."
        ) from error
    loss = getattr(module, attribute, None)
    if not callable(loss):
        names = ", ".join(k for k, v in vars(module).items() if callable(v) and not k.startswith("_")) or "none"
        raise UsageError(f"objective {name}: {module_name} has no function {attribute}; it has {names}.")
    function: PairLoss = loss
    _try(name, function)
    return function


def _try(name: str, loss: PairLoss) -> None:
    chosen = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-2.0, -2.0, -1.0], dtype=torch.float64, requires_grad=True)
    ref = torch.full((3,), -1.5, dtype=torch.float64)
    try:
        losses = loss(chosen, rejected, ref, ref, beta=0.1)
    except SafetyValveError:
        raise
    except Exception as error:
        # A researcher's function may raise anything; the name and the signature are what they need to see.
        raise UsageError(
            f"objective {name} failed on three pairs: {type(error).__name__}: {error}. "
            f"Its signature must be {SIGNATURE} -> one loss a pair."
        ) from error
    if not isinstance(losses, torch.Tensor):
        raise UsageError(f"objective {name} returned {shorten(losses)}; it must return a tensor, one loss a pair.")
    check_losses(losses, chosen)
