"""The five experiments, one a sub-command."""
