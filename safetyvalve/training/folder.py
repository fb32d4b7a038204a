"""The run folder: the only thing that stages share. Written once, appended to, never overwritten."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import weakref
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
import yaml

from safetyvalve.account import account
from safetyvalve.errors import RunError, shorten
from safetyvalve.native import kernels
from safetyvalve.processor import this_processor
from safetyvalve.training.disk import explain_full_disk

__all__ = ["RunFolder", "environment", "read_config"]

_PACKAGES = (
    "safetyvalve",
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "peft",
    "bitsandbytes",
    "numpy",
    "scipy",
)


_BEFORE_TRAINING = {"config.yaml", "environment.json", "data_report.json", "settings.json"}
"""Files of a run that has not measured, sampled or trained yet; all of them are made again in moments."""


class SavesPretrained(Protocol):
    """A model or a tokenizer."""

    def save_pretrained(self, save_directory: Path, /) -> Any: ...


class RunFolder:
    """Writes a run's record.

    Args:
        path: a folder that does not exist or is empty; with ``resume``, one of a run that was stopped.
        resume: go on with the run that it holds.

    Raises:
        RunError: it holds something already, or nothing to resume; it cannot be made; another process writes it.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self._made = not path.exists()
        if resume:
            self._reopen()
            return
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
        self._lock()

    def _reopen(self) -> None:
        read_config(self.path)
        if (self.path / "model").exists():
            raise RunError(f"the run '{self.path}' is finished; there is nothing to resume. Start a new one.")
        self._lock()
        for left in self.path.glob("*.tmp"):  # of a write that was cut short
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def _lock(self) -> None:
        """Two processes that write one folder would mix their records."""
        handle = os.open(self.path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, handle)
        """Lets others write the folder; so does the end of this object, or of the process however it ends."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"the run '{self.path}' is being written by another process. Wait for it, or end it first."
            ) from None

    def discard(self) -> None:
        """Take back the settings of a run that was refused before anything was computed, so that its mended command
        can have the same name. Does nothing where there is more."""
        found = {path.name for path in self.path.iterdir()}
        if found <= _BEFORE_TRAINING:
            for name in found:
                (self.path / name).unlink()
            if self._made:
                self.path.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Resolved settings, as ``config.yaml``."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self._write("config.yaml", text)

    def write_json(self, name: str, value: Any) -> None:
        self._write(name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """What :meth:`write_json` wrote, or None where it did not."""
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all."""
        partial = self.path / f"{name}.tmp"
        with explain_full_disk(self.path, name):
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path / name)

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """One line of ``metrics.jsonl``, on disk when this returns."""
        self.append_lines("metrics.jsonl", [record])

    def append_lines(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """One JSON object a line, on disk when this returns."""
        text = "".join(json.dumps(dict(r), ensure_ascii=False) + "\n" for r in records)
        with explain_full_disk(self.path, name), (self.path / name).open("ab") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())

    def write_lines(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """A file of one JSON object a line."""
        self._write(name, "".join(json.dumps(dict(r), ensure_ascii=False) + "\n" for r in records))

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """What :meth:`write_lines` wrote; empty where it did not."""
        file = self.path / name
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        return [json.loads(line) for line in text.split("\n") if line]

    def write_samples(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
        """``samples/step-000040.jsonl``: one line a sample of that evaluation."""
        (self.path / "samples").mkdir(exist_ok=True)
        self.write_lines(f"samples/{_sample_name(step)}", records)

    def read_samples(self, step: int) -> list[dict[str, Any]]:
        """What :meth:`write_samples` wrote; empty where it did not."""
        return self.read_lines(f"samples/{_sample_name(step)}")

    def metrics(self) -> list[dict[str, Any]]:
        """Whole lines of ``metrics.jsonl``; one cut short, as an interrupted run leaves it, is left out."""
        return self._whole_lines("metrics.jsonl")

    def _whole_lines(self, name: str) -> list[dict[str, Any]]:
        file = self.path / name
        lines = file.read_bytes().split(b"\n")[:-1] if file.is_file() else []
        return [json.loads(line) for line in lines if line.strip()]

    def keep_until(self, step: int) -> None:
        """Forget what was recorded after ``step``: a resumed run does those steps again."""
        for name in ("metrics.jsonl", "alarms.jsonl"):
            if (self.path / name).is_file():
                self.write_lines(name, [line for line in self._whole_lines(name) if line["step"] <= step])
        (self.path / "stopped.json").unlink(missing_ok=True)
        for file in (self.path / "samples").glob("step-*.jsonl"):
            if file.name > _sample_name(step):
                file.unlink()

    def save_model(self, *parts: SavesPretrained, name: str = "model") -> None:
        """``model/``, whole or not at all. A run that has it is finished: what else is saved comes before."""
        partial = self.path / f"{name}.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        with explain_full_disk(self.path, f"the trained {name}"):
            for part in parts:
                part.save_pretrained(partial)
            shutil.rmtree(self.path / name, ignore_errors=True)  # of a run that was stopped between the two
            partial.replace(self.path / name)


def read_config(run: Path) -> dict[str, Any]:
    """What :meth:`RunFolder.write_config` wrote.

    Raises:
        RunError: it is not there, or holds no settings.
    """
    file = run / "config.yaml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"'{run}' holds no run: it has no config.yaml. Name a run folder.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError(f"'{file}' cannot be read ({error}). Restore it from a copy.") from None
    if not isinstance(values, dict):
        raise RunError(f"'{file}' is {shorten(values)}; settings by name are accepted. Restore it from a copy.")
    return values


def _sample_name(step: int) -> str:
    return f"step-{step:06d}.jsonl"


def environment(*, seed: int, data_sha256: str, weights_sha256: str, train_ids: Iterable[str]) -> dict[str, Any]:
    """Versions, hardware, seed, the hashes of what went in, and who trained: nobody approves their own model."""
    return {
        "trained_by": account(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "processor": this_processor().name,
        "cpu_cores": psutil.cpu_count(logical=False),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": kernels().reason,
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
