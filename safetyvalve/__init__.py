"""safetyvalve: align language models with human preference without overoptimizing the reward."""

__version__ = "0.1.0"
