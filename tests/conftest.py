"""Fixtures shared by all tests. Shapes in signatures are checked while tests run (jaxtyping with beartype)."""

from __future__ import annotations

import gc
import json
import os
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


def pytest_collection_finish() -> None:
    """Every run collects garbage twice, through millions of objects of imported modules that are none: over half of the
    time of a tiny one. Imported once, they are not looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def oracle() -> dict[str, Any]:
    """Exact cases computed with 40 digits, see tests/oracle.json."""
    return json.loads((Path(__file__).parent / "oracle.json").read_text())
