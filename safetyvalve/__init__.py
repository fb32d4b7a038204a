"""safetyvalve: align language models with human preference without overoptimizing the reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safetyvalve.data import load_preferences
    from safetyvalve.objectives import dpo_loss, rpo_loss
    from safetyvalve.training import PolicyTrainer
    from safetyvalve.trees import response_logps

__version__ = "0.1.0"

__all__ = ["PolicyTrainer", "__version__", "dpo_loss", "load_preferences", "response_logps", "rpo_loss"]

_HOMES = {
    "PolicyTrainer": "training",
    "dpo_loss": "objectives",
    "load_preferences": "data",
    "response_logps": "trees",
    "rpo_loss": "objectives",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: ``import safetyvalve`` alone loads no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'safetyvalve' has no attribute '{name}'; it has {', '.join(__all__)}.")
    from importlib import import_module

    return getattr(import_module(f"safetyvalve.{_HOMES[name]}"), name)
