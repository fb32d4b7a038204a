"""Settings from a YAML file: each value with its line, of the type that its key has, or a message that names both.

YAML guesses types from looks: ``1e-5`` is a text, ``no`` and ``on`` are booleans, ``010`` is eight and ``1:30`` is
ninety. Here the key decides: a value is read from the characters as they stand in the file, as the command line reads
an option, and what does not fit the key's type is refused.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from safetyvalve.errors import UsageError, shorten

__all__ = ["Key", "Setting", "compose_mapping", "read_scalar", "read_settings"]

_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*(_\d+)*)")
_NUMBER = re.compile(r"[-+]?(\d+(_\d+)*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value")}
_NULL = "tag:yaml.org,2002:null"
_ACCEPTED = {
    bool: "true or false",
    int: "a whole number such as 40",
    float: "a number such as 0.05 or 1e-5",
    str: "a text",
    Path: "a path",
}


@dataclass(frozen=True)
class Key:
    """What a file may hold under one name."""

    kind: type
    """bool, int, float, str or Path."""
    many: bool = False
    """A list of them; a single one is taken as a list of one."""
    optional: bool = False
    """``null`` is accepted, and means that nothing was chosen."""


class Setting(NamedTuple):
    """A value and where it stands."""

    value: Any
    line: int
    """Counted from 1."""


def read_settings(file: Path, keys: Mapping[str, Key]) -> dict[str, Setting]:
    """Read a mapping of settings.

    Args:
        file: YAML in UTF-8, one mapping; ``~/`` at the start of a text or path is the home folder, as in a shell.
        keys: what it may hold.

    Raises:
        UsageError: the file cannot be read or is no mapping; a key is unknown or stands twice; a value does not fit
            its key. The message names file and line.
    """
    root = compose_mapping(file)
    settings: dict[str, Setting] = {}
    for key_node, node in root.value:
        line, name = key_node.start_mark.line + 1, str(key_node.value)
        if name not in keys:
            raise UsageError(f"{file}:{line}: {_unknown(name, keys)}")
        if name in settings:
            raise UsageError(
                f"{file}:{line}: '{name}' stands here again, first in line {settings[name].line}; each key is accepted "
                "once. Remove one of them."
            )
        try:
            settings[name] = Setting(_value(name, node, keys[name]), line)
        except ValueError as error:
            raise UsageError(f"{file}:{node.start_mark.line + 1}: {error}") from None
    return settings


def compose_mapping(file: Path) -> yaml.MappingNode:
    """The nodes of a YAML file that holds one mapping, each with its line.

    Raises:
        UsageError: it cannot be read, or is none; with file and line.
    """
    try:
        root = yaml.compose(file.read_bytes().decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"configuration '{file}' cannot be read ({error.strerror}). Name a YAML file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(
            f"{place}: not YAML ({problem}). One `key: value` a line is accepted; put a value with ': ', ' #', '\\' or "
            "a leading special character between single quotes."
        ) from None
    if root is None:
        raise UsageError(f"{file} has no settings. Write one `key: value` a line, or start from `safetyvalve init`.")
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{file} is no mapping; one `key: value` a line is accepted.")
    return root


def _unknown(name: str, keys: Mapping[str, Key]) -> str:
    near = difflib.get_close_matches(name.lstrip("-").replace("-", "_").lower(), keys, n=1)
    remedy = f"Did you mean '{near[0]}'?" if near else f"Accepted: {', '.join(sorted(keys))}."
    return f"there is no setting {shorten(name)}. {remedy}"


def _value(name: str, node: yaml.Node, key: Key) -> Any:
    if isinstance(node, yaml.SequenceNode) and key.many:
        return [read_scalar(name, item, Key(key.kind)) for item in node.value]
    value = read_scalar(name, node, key)
    return value if value is None or not key.many else [value]


def read_scalar(name: str, node: yaml.Node, key: Key) -> Any:
    """A value as it stands in the file. Raises ValueError with a message that lacks the place."""
    accepted = _ACCEPTED[key.kind]
    if not isinstance(node, yaml.ScalarNode):
        what = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        raise ValueError(f"{name} is {what}; accepted: {accepted}.")
    if node.tag not in _TAGS:
        raise ValueError(f"{name} has the tag {node.tag}; plain values are accepted. Remove the tag.")
    text, plain = str(node.value), node.style is None
    if plain and node.tag == _NULL:
        if key.optional:
            return None
        raise ValueError(f"{name} is empty; accepted: {accepted}. Give a value, or remove the line for the default.")
    if key.kind in (str, Path):
        if not text:
            raise ValueError(f"{name} is an empty text. Give a value, or remove the line for the default.")
        return str(Path(text).expanduser()) if text.startswith("~/") else text
    if not plain:
        raise ValueError(f"{name} is the text {shorten(text)}; accepted: {accepted}, without quotes.")
    if key.kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if key.kind is int and _INTEGER.fullmatch(text):
        return int(text)
    if key.kind is float and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise ValueError(f"{name} is {shorten(text)}; accepted: {accepted}.")
