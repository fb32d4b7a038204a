"""Runs whose course of scores is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyvalve.report import RunRecord, read_run
from tests.report.runs import make_run

COURSES: dict[str, tuple[list[float] | None, list[float]]] = {
    "over": ([0.5, 1.0, 1.2, 0.9, 0.6], [0.0, 0.4, 0.9, 1.3, 1.6]),
    "good": ([0.5, 0.8, 1.0, 1.1, 1.2], [0.0, 0.2, 0.4, 0.5, 0.6]),
    "alike": ([0.5, 0.8, 1.0, 1.1, 1.2], [0.0, 0.2, 0.4, 0.5, 0.6]),
    "flat": ([0.5, 0.5, 0.5, 0.5, 0.5], [0.0, 0.1, 0.2, 0.3, 0.4]),
    "bad": ([0.5, 0.4, 0.3, 0.2, 0.1], [0.0, 0.0, -0.1, -0.2, -0.3]),
    "unscored": (None, [0.0, 0.4, 0.9, 1.3, 1.6]),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by the name of their course; nothing may write to them."""
    base = tmp_path_factory.mktemp("runs")
    return {
        name: make_run(base / f"{name}-folder", name, course, gains=gains) for name, (course, gains) in COURSES.items()
    }


@pytest.fixture(scope="session")
def runs(folders: dict[str, Path]) -> dict[str, RunRecord]:
    return {name: read_run(folder) for name, folder in folders.items()}
