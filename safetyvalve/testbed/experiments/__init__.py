"""The six experiments, one a sub-command."""
