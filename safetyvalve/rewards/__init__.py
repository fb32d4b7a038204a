"""Reward models: a scalar head, ensembles, and what they are unsure of."""
