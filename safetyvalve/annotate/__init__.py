"""Human evaluation: people judge answers side by side, blind, while models train; their votes train the next round."""

from safetyvalve.annotate.batches import Rules
from safetyvalve.annotate.database import Database
from safetyvalve.annotate.events import verify
from safetyvalve.annotate.export import export_files, write_export
from safetyvalve.annotate.server import create_app
from safetyvalve.annotate.site import Settings
from safetyvalve.annotate.sources import PAIRINGS, Source
from safetyvalve.hashing import Head

__all__ = [
    "PAIRINGS",
    "Database",
    "Head",
    "Rules",
    "Settings",
    "Source",
    "create_app",
    "export_files",
    "verify",
    "write_export",
]
