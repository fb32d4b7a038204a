"""A dataset by its name on the Hugging Face hub, loaded by ``datasets``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from safetyvalve.data.sources.columnar import dataset_rows, files_digest
from safetyvalve.data.sources.source import Source, choose_split, require
from safetyvalve.errors import DataError
from safetyvalve.hub import cache_only_without_hub

__all__ = ["HubName", "hub_name", "read_hub"]


class HubName(NamedTuple):
    """``ORG/NAME[@REVISION][/CONFIG][:SPLIT]``."""

    repository: str
    revision: str | None
    config: str | None
    split: str | None


_NAME = re.compile(
    r"(?P<repository>\w[\w.-]*/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<config>[\w.-]+))?(:(?P<split>[\w.-]+))?",
    re.ASCII,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILE_ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".gz", ".txt", ".xlsx")


def hub_name(text: str) -> HubName | None:
    """The parts of a hub name; None for what cannot be one, such as a path with a file's ending."""
    match = _NAME.fullmatch(text)
    if match is None or text.lower().endswith(_FILE_ENDINGS):
        return None
    return HubName(**match.groupdict())


def read_hub(text: str, name: HubName) -> Source:
    """Download, or take from the cache, one split.

    Raises:
        DataError: ``datasets`` is not installed, the hub cannot be reached, or it has no such dataset, config or
            split.
    """
    datasets = require("datasets", text)
    options = {"path": name.repository, "revision": name.revision}
    data: Any
    why: str | None = None
    try:
        with cache_only_without_hub() as why:
            config = _choose_config(datasets.get_dataset_config_names(**options), text, name)
            splits = datasets.get_dataset_split_names(config_name=config, **options)
            split = choose_split(splits, name.split, text)
            data = datasets.load_dataset(name=config, split=split, **options)
    except DataError:
        raise
    except Exception as error:  # the network, the hub and the dataset's own files each raise in their way
        reason = why or f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0].rstrip('.')}"
        raise DataError(
            f"is no file or folder here, and could not be loaded from the Hugging Face hub as '{name.repository}' "
            f"({reason}). Correct the path or the name, or check the network and, for a "
            "dataset that needs it, your login.",
            file=text,
        ) from None
    files = [Path(cached["filename"]) for cached in data.cache_files]
    commit = next((part for file in files for part in file.parts if _COMMIT.fullmatch(part)), "unknown")
    if name.revision is not None and _COMMIT.fullmatch(name.revision) and name.revision != commit:
        # Without a network datasets falls back on any revision that is cached, and only logs it.
        raise DataError(
            f"is cached at commit {commit} only, and the hub was not reached. Check the network.", file=text
        )
    kind = f"hub dataset {name.repository} (config {config}, split {split}, commit {commit[:12]})"
    return Source(text, kind, files_digest(files), dataset_rows(data, text))


def _choose_config(configs: list[str], text: str, name: HubName) -> str:
    if name.config is None and (len(configs) == 1 or "default" in configs):
        return configs[0] if len(configs) == 1 else "default"
    if name.config in configs:
        return str(name.config)
    asked = f"has no config '{name.config}'" if name.config else "has several configs"
    raise DataError(f"{asked}; accepted: {', '.join(configs)}. Name one: {name.repository}/{configs[0]}.", file=text)
