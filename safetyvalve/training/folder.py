"""The run folder: the only thing that stages share. Written once, appended to, never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from safetyvalve.errors import RunError

__all__ = ["RunFolder", "environment"]

_PACKAGES = ("safetyvalve", "torch", "transformers", "accelerate", "safetensors", "numpy", "scipy")


class RunFolder:
    """Writes a run's record.

    Args:
        path: a folder that does not exist or is empty.

    Raises:
        RunError: it holds something already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                what = "holds another run" if (path / "config.yaml").exists() else "is not an empty folder"
                raise RunError(
                    f"output folder '{path}' {what}; nothing was changed. Name a new one with --output, or remove it."
                )
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"output folder '{path}' cannot be made ({error.strerror}). Name another --output."
            ) from None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Resolved settings, as ``config.yaml``."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        (self.path / "config.yaml").write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """One line of ``metrics.jsonl``, on disk when this returns."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(record), ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def write_samples(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
        """``samples/step-000040.jsonl``: one line a sample of that evaluation."""
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        text = "".join(json.dumps(dict(r), ensure_ascii=False) + "\n" for r in records)
        (folder / f"step-{step:06d}.jsonl").write_text(text, encoding="utf-8")


def environment(*, seed: int, data_sha256: str, weights_sha256: str, train_ids: Iterable[str]) -> dict[str, Any]:
    """Versions, hardware, seed and the hashes of what went in."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "processor": _processor(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "seed": seed,
        "data_sha256": data_sha256,
        "model_sha256": weights_sha256,
        "train_ids_sha256": hashlib.sha256("\n".join(train_ids).encode()).hexdigest(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
