"""Fixtures shared by all tests. Shapes in signatures are checked while tests run (jaxtyping with beartype)."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  (the hook names it)

install_import_hook(["safetyvalve.objectives"], "tests.typecheck.checked")

import pytest  # noqa: E402
import torch  # noqa: E402

# Tiny tensors are slower on two threads than on one.
torch.set_num_threads(1)


CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_finish() -> None:
    """Every run collects garbage twice, through millions of objects of imported modules that are none: over half of the
    time of a tiny one. Imported once, they are not looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def oracle() -> dict[str, Any]:
    """Exact cases computed with 40 digits, see tests/oracle.json."""
    return json.loads((Path(__file__).parent / "oracle.json").read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium; skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield opened
        opened.close()
