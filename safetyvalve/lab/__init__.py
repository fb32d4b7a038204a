"""Controlled experiments composed from the parts of the library."""
