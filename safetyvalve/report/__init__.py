"""Reports: one or more run folders to one self-contained page, with a finding that says what the numbers show."""

from safetyvalve.report.card import model_card, write_card
from safetyvalve.report.finding import Finding, finding
from safetyvalve.report.page import build_report, save_page, write_report
from safetyvalve.report.record import RunRecord, read_run

__all__ = [
    "Finding",
    "RunRecord",
    "build_report",
    "finding",
    "model_card",
    "read_run",
    "save_page",
    "write_card",
    "write_report",
]
